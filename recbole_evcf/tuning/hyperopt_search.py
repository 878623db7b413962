"""RecBole's ``HyperTuning`` (hyperopt), with a seed, and able to go on where it stopped.

What hyperopt draws for a trial depends on the seed, the trial's number and, but for ``random``,
on the trials before it. The stored trials hold all of that: nothing of hyperopt's is pickled.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, fmin, hp
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_RUNNING, Domain
from hyperopt.exceptions import AllTrialsFailed
from hyperopt.pyll.base import Literal
from recbole.trainer import HyperTuning
from recbole.trainer.hyper_tuning import exhaustive_search

from recbole_evcf.tuning.params_file import Parameter
from recbole_evcf.tuning.store import TrialStore

__all__ = ["Search"]

# RecBole's exhaustive search draws until it meets a new point, and gives up after so many draws
# per point of the space: the last of n is then missed with a probability of e**-100.
DRAWS_PER_POINT = 100


class Search(HyperTuning):
    """A search that starts from the trials that are done.

    Args:
        train: called with a trial's number and parameters; returns the outcome, see
            :func:`~recbole_evcf.tuning.trial.attempt_trial`.
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
        train: Callable[[int, dict[str, Any]], dict[str, Any]],
        parameters: list[Parameter],
        store: TrialStore,
        algo: str,
        max_evals: int | None,
        early_stop: int | None,
        seed: int,
        on_trial: Callable[[dict[str, Any]], None] = lambda trial: None,
    ):
        super().__init__(self._objective, space=_space(parameters), algo=algo, max_evals=max_evals)
        self._train = train
        self.parameters = parameters
        self._store = store
        self._seed = seed
        self._on_trial = on_trial
        if algo == "exhaustive":
            size = int(self.max_evals)
            self.max_evals = min(size, max_evals or size)
            limit = DRAWS_PER_POINT * size
            self.algo = functools.partial(exhaustive_search, nbMaxSucessiveFailures=limit)
        self._suggest, self.algo = self.algo, self._suggest_by_seed
        self.early_stop_fn = functools.partial(_no_progress, early_stop)
        self.trials = _Trials()
        self.trials.insert_trial_docs([self._document(trial) for trial in store.trials])
        self.trials.refresh()

    @property
    def is_over(self) -> bool:
        """Whether no trial is left to begin."""
        return len(self.trials) >= self.max_evals or self.early_stop_fn(self.trials)[0]

    def run(self) -> None:
        """Search. What ends it from outside costs the trial being trained, and no other."""
        if self.is_over:
            return
        # What RecBole prints: standard output is for the result of the whole search.
        with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(AllTrialsFailed):
            fmin(
                self.trial,
                self.space,
                algo=self.algo,
                max_evals=self.max_evals,
                trials=self.trials,
                early_stop_fn=self.early_stop_fn,
                return_argmin=False,
                verbose=False,
            )

    def trial(self, params: dict[str, Any]) -> dict[str, Any]:
        """RecBole's, but that a trial which fails does not end the search."""
        try:
            return super().trial(params)
        except _TrialFailed:
            return {"status": STATUS_FAIL}

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """The number and parameters of the next trial for who trains elsewhere; None at the end.

        :meth:`settle` is to be called with its outcome.
        """
        if self.is_over:
            return None
        domain = Domain(self.trial, self.space)
        documents = self.algo(self.trials.new_trial_ids(1), domain, self.trials, 0)
        if not documents:
            return None
        self.trials.insert_trial_docs(documents)
        self.trials.refresh()
        document = self.trials.trials[-1]
        document["state"] = JOB_STATE_RUNNING
        return document["tid"] + 1, self._params(document)

    def settle(self, number: int, outcome: dict[str, Any]) -> None:
        """Keep the outcome of a trial that was proposed."""
        document = next(doc for doc in self.trials.trials if doc["tid"] == number - 1)
        trial = self._keep(document, outcome)
        document.update(state=JOB_STATE_DONE, result=self._result(trial))
        self.trials.refresh()

    def _objective(self, config_dict, config_file_list) -> dict[str, Any]:
        """What RecBole calls for a trial; its number is in hyperopt's document of it."""
        running = [doc for doc in self.trials.trials if doc["state"] == JOB_STATE_RUNNING]
        document = running[-1]
        outcome = self._train(document["tid"] + 1, self._params(document))
        trial = self._keep(document, outcome)
        if trial["status"] == "failed":
            raise _TrialFailed
        return {
            "model": None,
            "best_valid_score": trial["score"],
            "valid_score_bigger": self._store.bigger,
            "best_valid_result": trial["valid"],
            "test_result": {},
        }

    @staticmethod
    def _print_result(result_dict: dict) -> None:
        """Nothing: the store tells of each trial."""

    def _keep(self, document: dict, outcome: dict[str, Any]) -> dict[str, Any]:
        trial = {
            "number": document["tid"] + 1,
            "params": self._params(document),
            # Beside the parameters, since hyperopt needs what it drew to the last digit.
            "point": {
                name: np.asarray(v[0]).item() for name, v in document["misc"]["vals"].items()
            },
            **outcome,
        }
        self._store.add(trial)
        self._on_trial(trial)
        return trial

    def _params(self, document: dict) -> dict[str, Any]:
        drawn = document["misc"]["vals"]
        return {p.name: p.setting(drawn[p.name][0]) for p in self.parameters}

    def _suggest_by_seed(self, new_ids, domain, trials, _) -> list[dict]:
        """hyperopt's algorithm, with a seed for each trial that no interruption changes."""
        sequence = np.random.SeedSequence([self._seed, new_ids[0]])
        return self._suggest(new_ids, domain, trials, int(sequence.generate_state(1)[0] >> 1))

    def _document(self, trial: dict[str, Any]) -> dict:
        """hyperopt's document of a trial that is done."""
        tid, point = trial["number"] - 1, trial["point"]
        place = {
            "tid": tid,
            "cmd": None,
            "workdir": None,
            "idxs": {name: [tid] for name in point},
            "vals": {name: [value] for name, value in point.items()},
        }
        (document,) = Trials().new_trial_docs([tid], [None], [self._result(trial)], [place])
        return {**document, "state": JOB_STATE_DONE}

    def _result(self, trial: dict[str, Any]) -> dict[str, Any]:
        if trial["status"] == "failed":
            return {"status": STATUS_FAIL}
        score = trial["score"]
        return {"status": STATUS_OK, "loss": -score if self._store.bigger else score}


class _TrialFailed(Exception):
    """Ends a trial in RecBole's ``HyperTuning``."""


class _Trials(Trials):
    """Where numbers are missing, as when parallel trials were interrupted, those come first."""

    def new_trial_ids(self, n: int) -> list[int]:
        taken = self._ids
        free = (tid for tid in range(len(taken) + n) if tid not in taken)
        new = [next(free) for _ in range(n)]
        taken.update(new)
        return new


def _space(parameters: list[Parameter]) -> dict[str, Any]:
    return {parameter.name: _dimension(parameter) for parameter in parameters}


def _dimension(parameter: Parameter):
    if parameter.kind == "choice":
        # As one value: hyperopt would take a list apart.
        return hp.choice(parameter.name, [Literal(value) for value in parameter.range])
    return getattr(hp, parameter.kind)(parameter.name, *parameter.range)


def _no_progress(limit: int | None, trials: Trials, *_) -> tuple[bool, list]:
    """hyperopt's question after each trial: whether to stop, and what to be asked with next."""
    done = [trial["result"] for trial in trials.trials if trial["state"] == JOB_STATE_DONE]
    losses = [result.get("loss", np.inf) for result in done]
    since_best = len(losses) - 1 - int(np.argmin(losses)) if losses else 0
    return limit is not None and since_best >= limit, []
