"""Connect to Ray, on this machine or a cluster, quietly, and have it call a function many times."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from recbole_evcf.utils import packages
from recbole_evcf.utils.text import one_line

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # No tables in Ray's formats, and no Ctrl-C that ends the search as if finished.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
# How often a call is made again when its worker or its machine has died.
RETRIES = 3


@contextlib.contextmanager
def connected(address: str | None, share: Mapping[str, float]) -> Iterator[None]:
    """Be connected to the cluster of an address, or to Ray on this machine, within the block.

    ``share`` is the ``CPU`` and ``GPU`` of each run.

    Raises:
        ValueError: the cluster cannot be reached, or none of its machines has room for a run.
    """
    with packages.sigterm_kept():
        context = _started(address)
    with context:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(has.get(kind, 0) >= share[kind] for kind in share) for has in machines):
            asked = " ".join(f"--{kind.lower()}s_per_trial={share[kind]:g}" for kind in share)
            raise ValueError(f"{asked} is more than any machine of the Ray cluster has.")
        yield


def results(
    function: Callable[..., Any],
    calls: Mapping[str, tuple],
    share: Mapping[str, float],
    tell: Callable[[str, str], None] = lambda name, what: None,
    **options: Any,
) -> Iterator[tuple[str, Any, str]]:
    """Call a function with the arguments in ``calls``; yield, as they end, the name of each, what
    it returned, and why it failed: "", or lines of which the first is the reason.

    A call whose process died is made again, which ``tell`` hears. ``options`` are Ray's of a task.
    """
    # By itself Ray would try again without a word, and without end where memory is short.
    options |= {"num_cpus": share["CPU"], "num_gpus": share["GPU"], "max_retries": 0}
    task = ray.remote(**options)(function)
    deaths: Counter[str] = Counter()
    waiting: dict[str, Future] = {}
    # Not ray.wait(), which takes every signal for Ctrl-C.
    ended: SimpleQueue[str] = SimpleQueue()

    def start(name: str) -> None:
        waiting[name] = task.remote(*calls[name]).future()
        waiting[name].add_done_callback(lambda _: ended.put(name))

    for name in calls:
        start(name)
    while waiting:
        name, found, failure = ended.get(), None, ""
        try:
            found = waiting.pop(name).result()
        except RayTaskError as error:
            failure = f"{type(error.cause).__name__}: {one_line(error.cause)}\n{error}"
        except RayError as error:
            deaths[name] += 1
            why = type(error).__name__
            if deaths[name] <= RETRIES:
                tell(name, f"its process died ({why}); it is tried again")
                start(name)
                continue
            failure = f"its process died {deaths[name]} times ({why}: out of memory?)\n{error}"
        yield name, found, failure


def settings_on(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a worker in another folder reads them: RecBole's are relative."""
    folders = {"data_path": "dataset", "checkpoint_dir": "saved"}
    paths = {key: os.path.abspath(settings.get(key) or value) for key, value in folders.items()}
    return {**settings, **paths}


def gpus() -> str:
    """Return the GPUs of this worker as ``gpu_id``; otherwise it would take the machine's first."""
    return ",".join(map(str, ray.get_gpu_ids()))


def _started(address: str | None) -> Any:
    """Return Ray's context, which disconnects when it ends."""
    os.environ.update(QUIET)
    # Some workers import Ray Tune before our code. The repair is sent as code: by name, idle
    # workers too would import the plugin and torch.
    ray.cloudpickle.register_pickle_by_value(packages)
    # Only settings and results pass through Ray's object store, by default a third of memory.
    here = {"object_store_memory": 128 * 1024**2, "include_dashboard": False}
    ours = {name: value for name, value in os.environ.items() if name.startswith("RECBOLE_EVCF_")}
    try:
        return ray.init(
            # None would mean any cluster that happens to run here.
            address=address or "local",
            runtime_env={
                "worker_process_setup_hook": packages.repair_numpy_names,
                "env_vars": ours,
            },
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else here),
        )
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        where = f"the Ray cluster {address}" if address else "Ray on this machine"
        raise ValueError(f"{where} cannot be used ({one_line(error)}).") from error
    finally:
        ray.cloudpickle.unregister_pickle_by_value(packages)
