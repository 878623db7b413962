"""Train, evaluate, measure and keep one run in a separate process."""

import os
import platform
import sys
from collections.abc import Callable, Mapping
from multiprocessing import parent_process, set_start_method
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.utils import get_trainer

from recbole_evcf.comparison.plan import settings_of_result
from recbole_evcf.config.checks import can_resume
from recbole_evcf.config.keys import differences
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.distributed import end_with_parent
from recbole_evcf.evaluator.metrics import SE_SUFFIX, per_user_values, ranked_users, write_per_user
from recbole_evcf.quick_start import load_data, new_model
from recbole_evcf.results import Store, digest
from recbole_evcf.trainer.resumption import states_kept
from recbole_evcf.utils.text import one_line

MIB = 2**20


def work(request: dict[str, Any], settings: dict[str, Any], path: str, connection: Any) -> None:
    """Do what the process does: :func:`execute`, and keep the result under the key ``settings``.

    To ``path``, the run's files add ``.log``, ``.json`` and ``.users.csv``. ``connection`` gets
    None when all is written, or one sentence on the error.
    """
    _write_output_to(f"{path}.log")
    _start_and_end_as_a_command()
    # RecBole's Config would read the parent's arguments.
    sys.argv = sys.argv[:1]
    try:
        with states_kept():
            result = execute(request, f"{path}.users.csv", settings)
            Store(os.path.dirname(path)).put(os.path.basename(path), settings, result)
    except Exception as error:
        sys.excepthook(*sys.exc_info())
        connection.send(f"{type(error).__name__}: {one_line(error)}")
        sys.exit(1)
    connection.send(None)


def _write_output_to(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number, stream in enumerate((sys.stdout, sys.stderr), start=1):
        stream.flush()
        os.dup2(file, number)


def _start_and_end_as_a_command() -> None:
    """Let the process start its own, as dataloaders with ``worker`` do, and end with its command:
    the command's next run would write the same files."""
    if parent_process() is not None:
        set_start_method(None, force=True)
        end_with_parent()


def execute(
    request: dict[str, Any], per_user_path: str, planned: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Train and evaluate a model as RecBole's ``run_recbole`` does.

    Where the model can be resumed, the newest unfinished run of the same settings in the folder
    ``checkpoint_dir`` is.

    Args:
        request: ``model``, ``dataset``, ``config_files`` and ``settings``.
        per_user_path: CSV file for the test metrics of each user, if there are any.
        planned: what the result will be kept under; None if it is not kept.

    Returns:
        ``valid`` and ``test`` metrics; ``smaller_is_better``, names of metrics; ``per_user``, the
        digest of that file, or None if it was not written; ``curve``, see :func:`recording`;
        ``n_train_users``, ``n_test_users``; ``test_split``, a digest of what was to be found;
        ``model_file``; ``measured_on``, the machine and its torch; and ``costs``, in seconds,
        users per second and MiB.

    Raises:
        ValueError: there is nothing to test on, or the files of settings and data have changed
            since the plan.
    """
    config = Config(
        request["model"], request["dataset"], request["config_files"], dict(request["settings"])
    )
    settings = settings_of_result(config, data="")
    config["resume"] = can_resume(config)
    _, train_data, valid_data, test_data = load_data(config)
    if not test_data:
        raise ValueError("the split leaves nothing to test on.")
    memory_before = peak_memory()
    model, construction = _timed(new_model, config, train_data._dataset)
    # Only now have all files been read.
    settings["data"] = digest_of_data(config)
    if planned and (changed := differences(planned, settings)):
        raise ValueError(
            "the settings or data of this run have changed since the command started "
            f"({', '.join(changed)}): repeat it."
        )
    # Not timed: making a trainer imports and opens TensorBoard.
    trainer = recording(get_trainer(config["MODEL_TYPE"], config["model"]))(config, model)
    progress = config["show_progress"]
    fitted, fitting = _timed(trainer.fit, train_data, valid_data, show_progress=progress)
    if getattr(trainer, "resumption", None):
        fitting += trainer.resumption.seconds_before
    test, testing = _timed(trainer.evaluate, test_data, show_progress=progress)
    metrics, curve = trainer.evaluator.metric_class, trainer.record
    values = per_user_values(metrics, config["topk"])
    users = ranked_users(test_data) if values else None
    if users is not None:
        write_per_user(per_user_path, users, values)
    training = construction + (sum(row["seconds"] for row in curve) or fitting)
    n_train, n_test = _number_of_users(train_data), _number_of_users(test_data)
    unit = f"{platform.machine()} CPU, threads: {torch.get_num_threads()}"
    gpu_memory = None
    if config["device"].type == "cuda":
        unit = torch.cuda.get_device_name(config["device"])
        gpu_memory = torch.cuda.max_memory_allocated(config["device"]) / MIB
    return {
        "valid": _plain(fitted[1]),
        "test": _plain(test),
        "smaller_is_better": [name for name, metric in metrics.items() if metric.smaller],
        "per_user": None if users is None else digest(Path(per_user_path)),
        "curve": curve,
        "n_train_users": n_train,
        "n_test_users": n_test,
        "test_split": _digest_of_targets(test_data._dataset),
        "model_file": getattr(trainer, "saved_model_file", None),
        "measured_on": f"{platform.node()} ({unit}), torch {torch.__version__}",
        "costs": {
            "training_seconds": training,
            "total_seconds": construction + fitting,
            "training_users_per_second": n_train * max(len(curve), 1) / training,
            "evaluation_users_per_second": n_test / testing,
            "memory_before_mib": memory_before,
            "peak_memory_mib": peak_memory(),
            "peak_gpu_memory_mib": gpu_memory,
        },
    }


def _timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    start = perf_counter()
    return function(*args, **kwargs), perf_counter() - start


def _plain(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    found = (metrics or {}).items()
    return {name: float(value) for name, value in found if not name.endswith(SE_SUFFIX)}


def _number_of_users(data: Any) -> int:
    return len(np.unique(np.asarray(data._dataset.inter_feat[data._dataset.uid_field])))


def _digest_of_targets(dataset: Any) -> str:
    """Return a digest of the test's user-item pairs, by original ids, whatever their order."""
    users, items = (
        dataset.id2token(field, np.asarray(dataset.inter_feat[field])).tolist()
        for field in (dataset.uid_field, dataset.iid_field)
    )
    return digest(sorted(zip(users, items)))[:16]


def recording(trainer_class: type) -> type:
    """Extend a trainer class of RecBole's or ours by ``record``, a list with a dict for each epoch.

    Its keys: ``epoch``; ``seconds`` of training, without validation; for our models
    ``reconstruction``, ``kl`` and ``kl_weight``; and where the epoch was validated
    ``valid_score``. A resumed run keeps its record.
    """

    class Recording(trainer_class):
        PROGRESS = (*getattr(trainer_class, "PROGRESS", ()), "record")

        def __init__(self, *args: Any, **kwargs: Any):
            self.record: list[dict] = []
            super().__init__(*args, **kwargs)

        def _train_epoch(self, data: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
            losses, seconds = _timed(super()._train_epoch, data, epoch, *args, **kwargs)
            terms = losses if isinstance(losses, dict) else {}
            self.record.append({"epoch": epoch, "seconds": seconds, **terms})
            return losses

        def _valid_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
            score, result = super()._valid_epoch(*args, **kwargs)
            if self.record:
                self.record[-1]["valid_score"] = float(score)
            return score, result

    Recording.__name__ = trainer_class.__name__
    return Recording


def peak_memory() -> float | None:
    """Return this process's peak resident memory so far, in MiB; None where it is unknown."""
    # Not getrusage(): on Linux a new program inherits its parent's peak.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)
