"""The search space, the trials that are done, and which trial comes next.

A search space is a file in RecBole's format (``.hyper``), read as data. A line is the name of a
parameter, its kind and its range::

    likelihood choice ['multinomial', 'bernoulli']
    anneal_cap uniform 0.1,1.0
    latent_dimension quniform 50,300,50
    learning_rate loguniform -8,-4
"""

from __future__ import annotations

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
from recbole.config import Config

from recbole_evcf.config.files import named_file
from recbole_evcf.config.keys import differences
from recbole_evcf.results import Store, read_sealed
from recbole_evcf.utils.files import plain_json
from recbole_evcf.utils.text import plain_value, shortened, shown

__all__ = ["KINDS", "Parameter", "Search", "read_params_file"]

# What the range of each kind must be.
KINDS = {
    "choice": "a list of different numbers, strings, lists or None, such as [1, 2] or ['a', 'b']",
    "uniform": "LOW,HIGH in numbers, LOW below HIGH",
    "quniform": "LOW,HIGH,STEP in numbers, LOW below HIGH and STEP above 0",
    "loguniform": "LOW,HIGH, the natural logarithms of the bounds, LOW below HIGH, HIGH below 709",
}
# What is no setting in the key of a search, as an error names it.
NAMES = {"data": "the files of the data set", "params_file": "the search space"}


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search space: a key of the config, its kind, and its range.

    The range is the values of a choice; otherwise the lower and upper bound, and for ``quniform``
    the step. The bounds of ``loguniform`` are natural logarithms.
    """

    name: str
    kind: str
    range: tuple[Any, ...]

    def extremes(self) -> tuple[Any, ...]:
        """Return values to try beforehand: all choices, otherwise both bounds."""
        if self.kind == "choice":
            return self.range
        low, high = self.range[:2]
        if self.kind == "loguniform":
            return math.exp(low), math.exp(high)
        if self.kind == "quniform":
            # hyperopt rounds to multiples of the step, even past the bounds.
            step = self.range[2]
            return tuple(self.setting(round(bound / step) * step) for bound in (low, high))
        return low, high

    def setting(self, drawn: float) -> Any:
        """Return the config value of a draw, which for a choice is its position."""
        if self.kind == "choice":
            return self.range[int(drawn)]
        is_whole = all(float(number).is_integer() for number in self.range)
        return round(drawn) if self.kind == "quniform" and is_whole else float(drawn)


def read_params_file(file: str) -> list[Parameter]:
    """Read a search space by the path of its file, or by a shipped one's name.

    Raises:
        ValueError: there is no such file, or a line of it is wrong; the message says which.
    """
    path = named_file(file, ".hyper", "There is no params file")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    space: dict[str, Parameter] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            parameter = _parameter(line)
            if parameter.name in space:
                raise ValueError(f"{parameter.name} is given a second time.")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        space[parameter.name] = parameter
    if not space:
        raise ValueError(f"{path} names no parameter.")
    return list(space.values())


def _parameter(line: str) -> Parameter:
    words = line.split(maxsplit=2)
    if len(words) < 3:
        raise ValueError(f"a line is `name kind range`, not {shown(line.strip())}.")
    name, kind, text = words
    if kind not in KINDS:
        raise ValueError(
            f"the kind of {name} must be one of {', '.join(KINDS)}, not {shown(kind)}."
        )
    try:
        return Parameter(name, kind, _choices(text) if kind == "choice" else _bounds(kind, text))
    except (SyntaxError, TypeError, ValueError):
        raise ValueError(
            f"the range of {name} must be {KINDS[kind]}, not {shown(text.strip())}."
        ) from None


def _choices(text: str) -> tuple[Any, ...]:
    values = plain_value(text)
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError
    # RecBole's reading of strings: '[600, 600]' is a list.
    read = Config._convert_config_dict(None, dict(enumerate(values))).values()
    settings = [list(value) if isinstance(value, tuple) else value for value in read]
    # JSON has no sets, bytes or infinite numbers.
    is_plain = json.loads(json.dumps(settings, allow_nan=False)) == settings
    if not is_plain or len(set(map(repr, settings))) < len(settings):
        raise ValueError
    return tuple(settings)


def _bounds(kind: str, text: str) -> tuple[float, ...]:
    numbers = tuple(map(float, text.split(",")))
    low, high, *step = numbers
    is_wrong = {
        "uniform": len(step) > 0,
        "quniform": len(step) != 1 or min(step) <= 0,
        # A higher exponent gives no float.
        "loguniform": len(step) > 0 or high >= 709,
    }
    if is_wrong[kind] or low >= high or not all(map(math.isfinite, numbers)):
        raise ValueError
    return numbers


class Search:
    """The trials of a search: those that are done, which its folder keeps, and the next.

    What is drawn for a trial depends on the seed, the trial's number and, for ``bayes``, on the
    trials before it: an interruption changes nothing. A trial is a dict with the keys ``number``
    (from 1), ``params``, ``point`` (what was drawn for them), and the outcome, see
    :func:`~recbole_evcf.tuning.tuning.attempt_trial`. In the folder ``trials/0001.json`` is a
    trial, which counts as not done if the file is corrupt, and ``models/0001/`` the model of the
    best one.

    Args: as of :func:`~recbole_evcf.tuning.tuning.tune`; ``key`` is all that decides the trials,
        ``config`` has ``seed``, ``valid_metric`` and ``valid_metric_bigger``, and ``on_trial`` is
        called with each trial that is done.

    Raises:
        ValueError: the folder holds trials of another search.
    """

    def __init__(
        self,
        folder: str,
        key: Mapping[str, Any],
        space: Sequence[Parameter],
        config: Config | Mapping[str, Any],
        algo: str,
        max_evals: int | None = None,
        early_stop: int | None = None,
        on_trial: Callable[[Mapping[str, Any]], None] = lambda trial: None,
    ):
        self.folder, self.key, self.space, self.algo = folder, plain_json(dict(key)), space, algo
        self.metric, self.bigger = config["valid_metric"], config["valid_metric_bigger"]
        self._seed, self._early_stop, self._on_trial = config["seed"], early_stop, on_trial
        self._shape = [len(parameter.range) for parameter in space]
        size = math.prod(self._shape) if algo == "exhaustive" else math.inf
        self.max_evals = int(min(size, max_evals or size))
        self.store = Store(Path(folder, "trials"))
        self._trials: dict[int, dict[str, Any]] = {}
        for path in self.store.folder.glob("[0-9]*.json"):
            try:
                kept = read_sealed(path)
            except (OSError, ValueError):
                continue
            _check_same(folder, kept["key"], self.key)
            self._trials[kept["value"]["number"]] = kept["value"]
        # What was drawn for each started trial.
        self._points = {number: trial["point"] for number, trial in self._trials.items()}

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials that are done, by number."""
        return [self._trials[number] for number in sorted(self._trials)]

    @property
    def best(self) -> dict[str, Any] | None:
        """The trial with the best score, the first of several; None if there is none."""
        scored = [trial for trial in self.trials if trial["status"] != "failed"]
        better = max if self.bigger else min
        return better(scored, key=lambda trial: trial["score"], default=None)

    @property
    def is_over(self) -> bool:
        """Whether no trial is left to start."""
        best = self.best["number"] if self.best else 0
        since_best = sum(number > best for number in self._trials)
        is_stuck = self._early_stop is not None and since_best >= self._early_stop
        return is_stuck or len(self._points) >= self.max_evals

    def model_file(self, number: int) -> str:
        """Return the path of a trial's model."""
        return str(Path(self.folder, "models", f"{number:04d}", "model.pth").absolute())

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Return the number and parameters of the next trial, for :meth:`settle`; None at the end.

        Numbers that are missing, as when parallel trials were interrupted, come first.
        """
        if self.is_over:
            return None
        number = next(n for n in itertools.count(1) if n not in self._points)
        draw = self._draw_of_grid if self.algo == "exhaustive" else self._draw_of_hyperopt
        self._points[number] = draw(number)
        return number, self._params(number)

    def settle(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Keep the outcome of a proposed trial, and only the best trial's model."""
        # The point next to the parameters: hyperopt needs its draws to the last digit.
        drawn = {"params": self._params(number), "point": self._points[number]}
        trial = plain_json({"number": number, **drawn, **outcome})
        self.store.put(f"{number:04d}", self.key, trial)
        self._trials[number] = trial
        best = self.best
        for each in self.trials:
            if each is not best:
                shutil.rmtree(Path(self.model_file(each["number"])).parent, ignore_errors=True)
        self._on_trial(trial)

    def _params(self, number: int) -> dict[str, Any]:
        return {each.name: each.setting(self._points[number][each.name]) for each in self.space}

    def _draw_of_grid(self, number: int) -> dict[str, int]:
        """Return a point of the grid in random order, without listing it: it may be huge."""
        generator = random.Random(self._seed)
        drawn: dict[int, None] = {}
        while len(drawn) < number:
            drawn[generator.randrange(math.prod(self._shape))] = None
        places = np.unravel_index(list(drawn)[-1], self._shape)
        return {parameter.name: int(place) for parameter, place in zip(self.space, places)}

    def _draw_of_hyperopt(self, number: int) -> dict[str, float]:
        from hyperopt import base, hp, rand, tpe
        from hyperopt.fmin import generate_trial

        dimensions = {
            each.name: hp.choice(each.name, list(range(len(each.range))))
            if each.kind == "choice"
            else getattr(hp, each.kind)(each.name, *each.range)
            for each in self.space
        }
        history = [
            generate_trial(started - 1, point)
            | {"state": base.JOB_STATE_DONE, "result": self._loss(started)}
            for started, point in sorted(self._points.items())
        ]
        suggest = rand.suggest if self.algo == "random" else tpe.suggest
        domain, trials = base.Domain(lambda point: 0.0, dimensions), base.trials_from_docs(history)
        seed = np.random.SeedSequence([self._seed, number - 1]).generate_state(1)[0] >> 1
        (found,) = suggest([number - 1], domain, trials, int(seed))
        return {k: np.asarray(v[0]).item() for k, v in found["misc"]["vals"].items()}

    def _loss(self, number: int) -> dict[str, Any]:
        """Return the result of a started trial as hyperopt has it."""
        trial = self._trials.get(number, {"status": "new"})
        if "score" not in trial:
            return {"status": "new" if trial["status"] == "new" else "fail"}
        return {"status": "ok", "loss": -trial["score"] if self.bigger else trial["score"]}


def _check_same(folder: str, kept: Mapping[str, Any], key: Mapping[str, Any]) -> None:
    changed = [
        NAMES.get(n) or f"{n} ({shortened(str(kept.get(n)))}, now {shortened(str(key.get(n)))})"
        for n in differences(kept, key)
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a search that differs in {', '.join(changed)}: repeat its settings to "
            "resume it, or give another output folder."
        )
