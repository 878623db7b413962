"""Run trials in parallel by Ray Tune, locally or on a cluster; ASHA stops the poor ones.

Ray only provides processes and early stopping: the next trial comes from
:class:`~recbole_evcf.tuning.search.Search`, which keeps the finished ones.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

# Ray Tune needs it, but reports that only after the search.
import pyarrow  # noqa: F401
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from recbole.config import Config

from recbole_evcf.config.checks import is_vae
from recbole_evcf.tuning.search import Search
from recbole_evcf.tuning.tuning import attempt_trial
from recbole_evcf.utils.ray import connected, gpus, settings_on

try:
    from ray.tune import RunConfig
    from ray.tune import report as report_to_ray

    STAY_IN_FOLDER = {}
except ImportError:
    # Ray 2.6, the newest that RecBole 1.2.1 admits.
    from ray.air import RunConfig
    from ray.air.session import report as report_to_ray

    STAY_IN_FOLDER = {"chdir_to_trial_dir": False}


def run(
    search: Search,
    shared: Mapping[str, Any],
    share: Mapping[str, float],
    address: str | None,
    grace_period: int | None,
) -> None:
    """Search to the end with the settings ``shared`` for all trials.

    ``share`` is the ``CPU`` and ``GPU`` of each trial. An interruption loses only the trials in
    training. A cluster that cannot be reached or has no room for one is a ValueError.
    """
    config = search.config
    # Half of the trials pass each rung; rungs are at doubled epochs.
    asha = ASHAScheduler(
        time_attr="epoch",
        max_t=config["epochs"],
        grace_period=min(grace_period or default_grace_period(config), config["epochs"]),
        reduction_factor=2,
    )
    with connected(address, share), tempfile.TemporaryDirectory() as folder:
        train = tune.with_parameters(_train, shared=settings_on(shared))
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": share["CPU"], "gpu": share["GPU"]}),
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max" if search.bigger else "min",
                search_alg=_Proposals(search),
                scheduler=asha,
                num_samples=-1,
                **STAY_IN_FOLDER,
            ),
            run_config=RunConfig(storage_path=folder, verbose=0),
        )
        with contextlib.redirect_stdout(sys.stderr):
            tuner.fit()


def default_grace_period(config: Config) -> int:
    """Return the epochs before ASHA may stop a trial: the warm-up, or a tenth of them all."""
    # During the warm-up, validation metrics say little about what the final KL weight will give.
    return int((is_vae(config) and config["warmup_epochs"]) or max(1, config["epochs"] // 10))


class _Proposals(Searcher):
    """The search in the form that Ray Tune calls."""

    def __init__(self, search: Search):
        super().__init__()
        self._search, self._numbers = search, dict[str, int]()

    def suggest(self, trial_id: str) -> Any:
        if (proposal := self._search.propose()) is None:
            return Searcher.FINISHED
        self._numbers[trial_id], params = proposal
        # As a string: Ray would interpret parts of a config as its own settings.
        return {"trial": json.dumps([params, self._search.model_file(self._numbers[trial_id])])}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        died = {"status": "failed", "reason": "its process died (out of memory?)"}
        outcome = json.loads(result["outcome"]) if result and "outcome" in result else died
        self._search.settle(self._numbers.pop(trial_id), outcome)


def _train(config: dict[str, Any], shared: dict[str, Any]) -> None:
    """Run a trial in a Ray process, which imports the plugin through this module."""
    params, model_file = json.loads(config["trial"])
    devices = gpus()
    settings = {**shared, "gpu_id": devices, "use_gpu": bool(devices), **params}

    def report(outcome: dict[str, Any]) -> None:
        judged = {"epoch": outcome.get("epochs", 0), "score": outcome.get("score", 0.0)}
        report_to_ray({**judged, "outcome": json.dumps(outcome)})

    # Reported after each validation too, since ASHA may end the process right there.
    report(attempt_trial(settings, model_file, report))
