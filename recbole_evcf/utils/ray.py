"""Connect to Ray, on this machine or a cluster: quiet, and with room for what is asked of it."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import ray

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
            raise ValueError(f"{asked} is more than any machine has that Ray knows.")
        yield


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
