"""The search space, the trials that are done, and which trial comes next.

A search space is a file in RecBole's format (``.hyper``), read as data. A line is the name of a
parameter, its kind and its range::

    likelihood choice ['multinomial', 'bernoulli']
    anneal_cap uniform 0.1,1.0
    latent_dimension quniform 50,300,50
    learning_rate loguniform -8,-4
"""

import itertools
import json
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.config import Config

from recbole_evcf.config.files import named_file
from recbole_evcf.config.keys import differences
from recbole_evcf.results import Store, read_sealed
from recbole_evcf.utils.files import plain_json
from recbole_evcf.utils.text import plain_value, shortened, shown

# What the range of each kind must be.
KINDS = {
    "choice": "a list of different numbers, strings, lists or None, such as [1, 2] or ['a', 'b']",
    "uniform": "LOW,HIGH in numbers, LOW below HIGH",
    "quniform": "LOW,HIGH,STEP in numbers, LOW below HIGH and STEP above 0",
    "loguniform": "LOW,HIGH, the natural logarithms of the bounds, LOW below HIGH, HIGH below 709",
}
# What is no setting in the key of a search, as an error names it.
NAMES = {"data": "the files of the data set", "params_file": "the search space"}

Trial = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A key of the config, its kind, and the values of a choice, or bounds and perhaps a step."""

    name: str
    kind: str
    range: tuple[Any, ...]

    def extremes(self) -> tuple[Any, ...]:
        """Return values to try beforehand: all choices, otherwise both bounds."""
        if self.kind == "choice":
            return self.range
        low, high, *step = self.range
        if self.kind == "loguniform":
            return math.exp(low), math.exp(high)
        # hyperopt rounds to multiples of the step, even past the bounds.
        rounded = [round(bound / step[0]) * step[0] if step else bound for bound in (low, high)]
        return tuple(map(self.setting, rounded))

    def setting(self, drawn: float) -> Any:
        """Return the config value of a draw, which for a choice is its position."""
        if self.kind == "choice":
            return self.range[int(drawn)]
        is_whole = all(float(number).is_integer() for number in self.range)
        return round(drawn) if self.kind == "quniform" and is_whole else float(drawn)


def read_params_file(file: str) -> list[Parameter]:
    """Read a file of a path or of a shipped name; a wrong line is a ValueError that names it."""
    path = named_file(file, ".hyper", "There is no params file")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    space: dict[str, Parameter] = {}
    for number, line in enumerate(lines, start=1):
        name, kind, text = (*line.split(maxsplit=2), "", "", "")[:3]
        if not name or name.startswith("#"):
            continue
        said = shortened(name)
        try:
            if name in space:
                raise ValueError(f"{said} is given a second time.")
            if kind not in KINDS:
                expected = f"one of {', '.join(KINDS)}"
                raise ValueError(f"the kind of {said} must be {expected}, not {shown(kind)}.")
            space[name] = Parameter(name, kind, _range(said, kind, text.strip()))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not space:
        raise ValueError(f"{path} names no parameter.")
    return list(space.values())


def _range(name: str, kind: str, text: str) -> tuple[Any, ...]:
    try:
        return _choices(plain_value(text)) if kind == "choice" else _bounds(kind, text)
    except (SyntaxError, TypeError, ValueError):
        expected = f"{KINDS[kind]}, not {shown(text)}"
        raise ValueError(f"the range of {name} must be {expected}.") from None


def _choices(values: Sequence[Any]) -> tuple[Any, ...]:
    # RecBole's reading of strings: '[600, 600]' is a list.
    read = Config._convert_config_dict(None, dict(enumerate(values))).values()
    settings = [list(value) if isinstance(value, tuple) else value for value in read]
    # JSON has no sets, bytes or infinite numbers.
    is_plain = json.loads(json.dumps(settings, allow_nan=False)) == settings
    is_list = isinstance(values, (list, tuple)) and len(values) > 0
    if not (is_list and is_plain) or len(set(map(repr, settings))) < len(settings):
        raise ValueError
    return tuple(settings)


def _bounds(kind: str, text: str) -> tuple[float, ...]:
    low, high, *step = numbers = tuple(map(float, text.split(",")))
    # exp() of a higher number is no float.
    highest = 709 if kind == "loguniform" else math.inf
    is_step = len(step) == (kind == "quniform") and all(0 < size < math.inf for size in step)
    if not (-math.inf < low < high < highest and is_step):
        raise ValueError
    return numbers


@dataclass
class Search:
    """The trials of a search: those that are done, which its folder keeps, and the next.

    What is drawn for a trial depends on the seed, the trial's number and, for ``bayes``, on the
    trials before it: an interruption changes nothing. A trial is a dict with the keys ``number``
    (from 1), ``params``, ``point`` (what was drawn for them), and once it is done the outcome, see
    :func:`~recbole_evcf.tuning.tuning.attempt_trial`. One whose file is corrupt is not done.

    ``key`` is all that decides the trials: a folder with trials of another is a ValueError.
    ``config`` has ``seed``, ``valid_metric`` and ``valid_metric_bigger``.
    """

    folder: str
    key: Mapping[str, Any]
    space: Sequence[Parameter]
    config: Config | Mapping[str, Any]
    algo: str
    max_evals: int | None = None
    early_stop: int | None = None
    on_trial: Callable[[Trial], None] = lambda trial: None

    def __post_init__(self) -> None:
        self.key = plain_json(dict(self.key))
        self.metric, self.bigger = self.config["valid_metric"], self.config["valid_metric_bigger"]
        self._shape = [len(parameter.range) for parameter in self.space]
        size = math.prod(self._shape) if self.algo == "exhaustive" else math.inf
        self.total = int(min(size, self.max_evals or size))
        self.store = Store(Path(self.folder, "trials"))
        # By number: those that are done, and those in training.
        self._started: dict[int, Trial] = {}
        for path in self.store.folder.glob("[0-9]*.json"):
            try:
                kept = read_sealed(path)
            except (OSError, ValueError):
                continue
            self._check_key(kept["key"])
            self._started[kept["value"]["number"]] = kept["value"]

    def _check_key(self, kept: Mapping[str, Any]) -> None:
        changed = []
        for name in differences(kept, self.key):
            then, now = (shortened(str(key.get(name))) for key in (kept, self.key))
            changed.append(NAMES.get(name, f"{name} ({then}, now {now})"))
        if changed:
            raise ValueError(
                f"{self.folder} holds a search that differs in {', '.join(changed)}: repeat its "
                "settings to resume it, or give another output folder."
            )

    @property
    def trials(self) -> list[Trial]:
        """The trials that are done, by number."""
        return [trial for _, trial in sorted(self._started.items()) if "status" in trial]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, the first of several; None if there is none."""
        better = max if self.bigger else min
        scored = (trial for trial in self.trials if "score" in trial)
        return better(scored, key=lambda trial: trial["score"], default=None)

    @property
    def is_over(self) -> bool:
        """Whether no trial is left to start."""
        best = self.best["number"] if self.best else 0
        since_best = sum(trial["number"] > best for trial in self.trials)
        is_stuck = self.early_stop is not None and since_best >= self.early_stop
        return is_stuck or len(self._started) >= self.total

    def model_file(self, number: int) -> str:
        """Return the path of a trial's model."""
        return str(Path(self.folder, "models", f"{number:04d}", "model.pth").absolute())

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Return number and parameters of the next trial, for :meth:`settle`; None at the end."""
        if self.is_over:
            return None
        # Numbers that are missing, as when parallel trials were interrupted, come first.
        number = next(n for n in itertools.count(1) if n not in self._started)
        # Kept next to the parameters: hyperopt needs its draws to the last digit.
        point = (self._of_grid if self.algo == "exhaustive" else self._of_hyperopt)(number)
        params = {each.name: each.setting(point[each.name]) for each in self.space}
        self._started[number] = {"number": number, "params": params, "point": point}
        return number, params

    def settle(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Keep the outcome of a proposed trial, and only the best trial's model."""
        trial = plain_json({**self._started[number], **outcome})
        self.store.put(f"{number:04d}", self.key, trial)
        self._started[number] = trial
        best = self.best
        for each in self.trials:
            if each is not best:
                shutil.rmtree(Path(self.model_file(each["number"])).parent, ignore_errors=True)
        self.on_trial(trial)

    def table(self) -> pd.DataFrame:
        """Return a row per trial that is done: its number, status, parameters and outcome."""
        rows = [
            {"trial": trial["number"], "status": trial["status"], **trial["params"]}
            | trial.get("valid", {})
            | {key: trial.get(key) for key in ("best_epoch", "epochs", "seconds", "reason")}
            for trial in self.trials
        ]
        # By way of objects, so that integers stay integers beside None.
        frame = pd.DataFrame(rows, dtype=object).infer_objects()
        return frame.astype({"best_epoch": "Int64", "epochs": "Int64"})

    def _of_grid(self, number: int) -> dict[str, int]:
        """Return a point of the grid in random order, without listing it: it may be huge."""
        generator = random.Random(self.config["seed"])
        drawn: dict[int, None] = {}
        while len(drawn) < number:
            drawn[generator.randrange(math.prod(self._shape))] = None
        places = np.unravel_index(list(drawn)[-1], self._shape)
        return {parameter.name: int(place) for parameter, place in zip(self.space, places)}

    def _of_hyperopt(self, number: int) -> dict[str, float]:
        from hyperopt import base, hp, rand, tpe
        from hyperopt.fmin import generate_trial

        dimensions = {
            each.name: hp.choice(each.name, list(range(len(each.range))))
            if each.kind == "choice"
            else getattr(hp, each.kind)(each.name, *each.range)
            for each in self.space
        }
        history = []
        for started, trial in sorted(self._started.items()):
            result = {"status": base.STATUS_FAIL}
            if "score" in trial:
                loss = -trial["score"] if self.bigger else trial["score"]
                result = {"status": base.STATUS_OK, "loss": loss}
            done = {"state": base.JOB_STATE_DONE, "result": result}
            history.append(generate_trial(started - 1, trial["point"]) | done)
        suggest = rand.suggest if self.algo == "random" else tpe.suggest
        domain, trials = base.Domain(lambda point: 0.0, dimensions), base.trials_from_docs(history)
        seeds = np.random.SeedSequence([self.config["seed"], number - 1]).generate_state(1)
        (found,) = suggest([number - 1], domain, trials, int(seeds[0] >> 1))
        return {k: np.asarray(v[0]).item() for k, v in found["misc"]["vals"].items()}
