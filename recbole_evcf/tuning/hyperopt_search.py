"""Which trial comes next: a grid, hyperopt's random draws, or hyperopt's TPE.

What is drawn for a trial depends on the seed, the trial's number and, for TPE, on the trials
before it, which are all in the store: an interruption changes nothing.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_NEW, STATUS_OK, Trials, hp, rand, tpe
from hyperopt.base import JOB_STATE_DONE, Domain
from hyperopt.pyll.base import Literal

from recbole_evcf.tuning.params_file import Parameter
from recbole_evcf.tuning.store import TrialStore

__all__ = ["Search"]


class Search:
    """A search that begins after the trials that are done.

    Args:
        parameters: the search space.
        store: the trials that are done, and those to come.
        algo: ``exhaustive``, ``random`` or ``bayes``.
        max_evals: how many trials at most, those that are done included; for ``exhaustive`` it
            may be None, for the whole grid.
        early_stop: end after so many trials without a better one; None never.
        seed: of the search.
        on_trial: is called with each trial that is done.
    """

    def __init__(
        self,
        parameters: list[Parameter],
        store: TrialStore,
        algo: str,
        max_evals: int | None,
        early_stop: int | None,
        seed: int,
        on_trial: Callable[[dict[str, Any]], None] = lambda trial: None,
    ):
        self.parameters, self._store, self._algo = parameters, store, algo
        self._shape = [len(parameter.range) for parameter in parameters]
        size = math.prod(self._shape) if algo == "exhaustive" else math.inf
        self.max_evals = int(min(size, max_evals or size))
        self._early_stop, self._seed, self._on_trial = early_stop, seed, on_trial
        # hyperopt's objective (trained elsewhere) and its space.
        self._domain = Domain(lambda point: 0.0, {p.name: _dimension(p) for p in parameters})
        # What was drawn for each started trial, by number.
        self._points = {trial["number"]: trial["point"] for trial in store.trials}

    @property
    def is_over(self) -> bool:
        """Whether no trial is left to start."""
        best, trials = self._store.best, self._store.trials
        since_best = sum(best is None or trial["number"] > best["number"] for trial in trials)
        is_stuck = self._early_stop is not None and since_best >= self._early_stop
        return is_stuck or len(self._points) >= self.max_evals

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Return the number and parameters of the next trial, None at the end of the search.

        :meth:`settle` is to be called with its outcome. Numbers that are missing, as when parallel
        trials were interrupted, come first.
        """
        if self.is_over:
            return None
        number = next(n for n in itertools.count(1) if n not in self._points)
        point = self._point_of_grid if self._algo == "exhaustive" else self._point_of_hyperopt
        self._points[number] = point(number)
        return number, self._params(number)

    def settle(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Keep the outcome of a proposed trial."""
        # The point next to the parameters: hyperopt needs its draws to the last digit.
        drawn = {"params": self._params(number), "point": self._points[number]}
        trial = {"number": number, **drawn, **outcome}
        self._store.add(trial)
        self._on_trial(trial)

    def _params(self, number: int) -> dict[str, Any]:
        point = self._points[number]
        return {
            parameter.name: parameter.setting(point[parameter.name])
            for parameter in self.parameters
        }

    def _point_of_grid(self, number: int) -> dict[str, int]:
        """Yield the grid in random order without listing it: it may be huge."""
        generator = random.Random(self._seed)
        drawn: dict[int, None] = {}
        while len(drawn) < number:
            drawn[generator.randrange(math.prod(self._shape))] = None
        place = np.unravel_index(list(drawn)[-1], self._shape)
        return {parameter.name: int(at) for parameter, at in zip(self.parameters, place)}

    def _point_of_hyperopt(self, number: int) -> dict[str, float]:
        suggest = rand.suggest if self._algo == "random" else tpe.suggest
        seed = np.random.SeedSequence([self._seed, number - 1]).generate_state(1)[0] >> 1
        (document,) = suggest([number - 1], self._domain, self._history(), int(seed))
        vals = document["misc"]["vals"]
        return {name: np.asarray(value[0]).item() for name, value in vals.items()}

    def _history(self) -> Trials:
        """Return the started trials in hyperopt's form."""
        results = {trial["number"]: self._result(trial) for trial in self._store.trials}
        history = Trials()
        for number, point in sorted(self._points.items()):
            tid = number - 1
            misc = {
                "tid": tid,
                "cmd": None,
                "workdir": None,
                "idxs": {name: [tid] for name in point},
                "vals": {name: [value] for name, value in point.items()},
            }
            result = results.get(number, {"status": STATUS_NEW})
            (document,) = history.new_trial_docs([tid], [None], [result], [misc])
            history.insert_trial_doc({**document, "state": JOB_STATE_DONE})
        history.refresh()
        return history

    def _result(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        if trial["status"] == "failed":
            return {"status": STATUS_FAIL}
        return {"status": STATUS_OK, "loss": trial["score"] * (-1 if self._store.bigger else 1)}


def _dimension(parameter: Parameter) -> Any:
    if parameter.kind == "choice":
        # As one value: hyperopt would unpack a list.
        return hp.choice(parameter.name, [Literal(value) for value in parameter.range])
    return getattr(hp, parameter.kind)(parameter.name, *parameter.range)
