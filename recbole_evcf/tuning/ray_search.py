"""Run trials in parallel by Ray Tune, locally or on a cluster; ASHA stops the poor ones.

Ray only provides processes and early stopping: the next trial comes from
:class:`~recbole_evcf.tuning.hyperopt_search.Search`, and finished ones are in its store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

# Ray Tune needs it, but reports that only after the search.
import pyarrow  # noqa: F401
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from recbole.config import Config

from recbole_evcf.config.checks import is_vae
from recbole_evcf.tuning.hyperopt_search import Search
from recbole_evcf.tuning.trial import Task, attempt_trial
from recbole_evcf.tuning.tuning import SearchOptions
from recbole_evcf.utils import packages
from recbole_evcf.utils.text import one_line

try:
    from ray.tune import RunConfig
    from ray.tune import report as report_to_ray

    STAY_IN_FOLDER = {}
except ImportError:
    # Ray 2.6, the newest that RecBole 1.2.1 admits.
    from ray.air import RunConfig
    from ray.air.session import report as report_to_ray

    STAY_IN_FOLDER = {"chdir_to_trial_dir": False}

__all__ = ["grace_period", "run"]

# Only settings and results pass through Ray's object store, which defaults to a third of memory.
OBJECT_STORE_BYTES = 128 * 1024**2
# Half of the trials pass each ASHA rung; rungs are at doubled epochs.
REDUCTION_FACTOR = 2

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # No tables in Ray's formats, and no Ctrl-C that ends the search as if finished.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def run(
    search: Search,
    options: SearchOptions,
    config: Config,
    task: Task,
    model_file: Callable[[int], str],
) -> None:
    """Search to the end; an interruption loses only the trials in training.

    Args:
        search: proposes trials and keeps their outcomes.
        options: of the cluster, and each trial's share of it.
        config: shared by the trials.
        task: what the trials share.
        model_file: called with a trial's number; returns its model's path.

    Raises:
        ValueError: there is no such cluster, or it has no room for a single trial.
    """
    cpus, gpus = options.cpus_per_trial, options.gpus_per_trial
    # A cluster's workers may run in another folder; RecBole's default is ``dataset``.
    path = os.path.abspath(task.settings.get("data_path") or "dataset")
    task = replace(task, settings={**task.settings, "data_path": path})
    shared = {"task": task, "epochs": config["epochs"], "on_gpu": gpus > 0}
    trainable = tune.with_resources(
        tune.with_parameters(_train, **shared), {"cpu": cpus, "gpu": gpus}
    )
    epochs = _most_epochs(config, search)
    scheduler = ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(options.grace_period or grace_period(config), epochs),
        reduction_factor=REDUCTION_FACTOR,
    )
    tune_config = tune.TuneConfig(
        metric="score",
        mode="max" if config["valid_metric_bigger"] else "min",
        search_alg=_Proposals(search, model_file),
        scheduler=scheduler,
        num_samples=-1,
        **STAY_IN_FOLDER,
    )
    with _connected(options.ray_address), tempfile.TemporaryDirectory() as folder:
        _check_room(cpus, gpus)
        run_config = RunConfig(storage_path=folder, verbose=0)
        with contextlib.redirect_stdout(sys.stderr):
            tune.Tuner(trainable, tune_config=tune_config, run_config=run_config).fit()


def grace_period(config: Config) -> int:
    """Return the epochs before ASHA may stop a trial: the warm-up, or a tenth of them all.

    During the warm-up, validation metrics say little about what the final KL weight will give.
    """
    if is_vae(config) and config["warmup_epochs"]:
        return int(config["warmup_epochs"])
    return max(1, config["epochs"] // 10)


def _most_epochs(config: Config, search: Search) -> int:
    tuned = [parameter for parameter in search.parameters if parameter.name == "epochs"]
    return max([config["epochs"], *(epochs for p in tuned for epochs in p.extremes())])


class _Proposals(Searcher):
    """The search in the form that Ray Tune calls."""

    def __init__(self, search: Search, model_file: Callable[[int], str]):
        super().__init__()
        self._search = search
        self._model_file = model_file
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        proposal = self._search.propose()
        if proposal is None:
            return Searcher.FINISHED
        number, params = proposal
        self._numbers[trial_id] = number
        # As a string: Ray would interpret parts of a config as its own settings.
        return {"trial": json.dumps([params, self._model_file(number)])}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if result and "outcome" in result:
            outcome = json.loads(result["outcome"])
        else:
            outcome = {"status": "failed", "reason": "its process died (out of memory?)"}
        self._search.settle(self._numbers.pop(trial_id), outcome)


def _train(config: dict[str, Any], task: Task, epochs: int, on_gpu: bool) -> None:
    """Run a trial in a Ray process, which imports the plugin through this module."""
    params, model_file = json.loads(config["trial"])
    # Otherwise every trial would take the machine's first GPU.
    devices = ",".join(map(str, ray.get_gpu_ids())) if on_gpu else ""
    task = replace(task, settings={**task.settings, "gpu_id": devices, "use_gpu": on_gpu})
    last = {"epoch": 0, "score": 0.0}

    def report(outcome: dict[str, Any]) -> None:
        last.update(epoch=outcome["epochs"], score=outcome["score"])
        # Reported now, since ASHA may end the process right here.
        is_last = outcome["epochs"] >= params.get("epochs", epochs)
        status = "finished" if is_last else "stopped"
        report_to_ray({**last, "outcome": json.dumps({"status": status, **outcome})})

    outcome = attempt_trial(task, params, model_file, report)
    report_to_ray({**last, "outcome": json.dumps(outcome)})


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    os.environ.update(QUIET)
    # Each worker imports Ray Tune before our code. The repair is sent as code: by name, idle
    # workers too would import the plugin and torch.
    ray.cloudpickle.register_pickle_by_value(packages)
    here = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(
            address=address,
            runtime_env={"worker_process_setup_hook": packages.repair_numpy_names},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else here),
        )
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        where = f"the Ray cluster {address}" if address else "Ray on this machine"
        raise ValueError(f"{where} cannot be used ({one_line(error)}).") from error
    finally:
        ray.cloudpickle.unregister_pickle_by_value(packages)
    try:
        yield
    finally:
        ray.shutdown()


def _check_room(cpus: float, gpus: float) -> None:
    have = ray.cluster_resources()
    for kind, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > have.get(kind, 0):
            raise ValueError(
                f"--{kind.lower()}s_per_trial={wanted:g} is more than the {have.get(kind, 0):g} "
                f"{kind}s that Ray has."
            )
