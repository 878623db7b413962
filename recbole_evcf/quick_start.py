"""RecBole's quick start, for its models and ours, also in new processes.

A function is pickled by the name of its module. Those here make a process that is started with
them (``torch.multiprocessing``, a Ray worker) import the plugin by itself.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import quick_start as recboles
from recbole.quick_start.quick_start import run_recbole
from recbole.utils import get_model, init_logger, init_seed

from recbole_evcf import distributed
from recbole_evcf.config import files
from recbole_evcf.config.checks import can_resume, check_processes, is_vae, plain_settings
from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue, download_missing
from recbole_evcf.model.models import MODELS
from recbole_evcf.serving.saved_model import AllocationBound
from recbole_evcf.trainer.checkpoint import load_checkpoint, restored_config, tested_model_files
from recbole_evcf.trainer.resumption import discard, states_kept
from recbole_evcf.utils.packages import CONSOLE
from recbole_evcf.utils.text import one_line, shortened

# Ours replace them.
_run, _run_recboles = recboles.run, recboles.run_recboles


def planned_run(
    model: str | None, dataset: str | None, config_files: Sequence[str], given: Mapping[str, Any]
) -> tuple[Config, list[str], dict[str, Any]]:
    """Check everything that :func:`run` will read, before anything starts.

    Arguments are those of :func:`recbole_evcf.run`, its settings as a dict.

    Returns:
        the finished config, the paths of the config files, and the settings to run with: the state
        of a run that can be resumed is kept unless they say otherwise.
    """
    paths, names = files.resolve_config_files(config_files), {**files.DEFAULTS}
    for path in paths:
        names.update(files.read_config_file(path))
    config = Config(model or names["model"], dataset or names["dataset"], paths, {**given})
    keep = config["resumable"] is None and can_resume(config)
    return config, paths, {**given, **({"resumable": True} if keep else {})}


def run(
    model: str,
    dataset: str,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    nproc: int = 1,
    world_size: int = -1,
    ip: str = "localhost",
    port: int | str = "",
    group_offset: int = 0,
    max_restarts: int = 0,
) -> dict[str, Any] | None:
    """Train and evaluate a model, in several processes if asked to; arguments as of RecBole's.

    A process that ``torchrun`` or ``srun`` has started as one of several trains with the others.
    If one dies, all are started again, at most ``max_restarts`` times, and resume.

    Returns:
        the result of ``run_recbole``, and ``model_file``, the path of the trained model, None if it
        was not saved. In processes and on machines other than the first None instead.

    Raises:
        ValueError: a setting is wrong, or the processes do not fit together.
        ChildProcessError, ConnectionError: as :func:`recbole_evcf.distributed.launch`.
    """
    distributed.end_unguarded()
    arguments = (model, dataset, config_file_list, config_dict, saved)
    keys = distributed.layout(nproc, world_size, group_offset, ip, port)
    outside = distributed.from_environment()
    if outside and keys["world_size"] > 1:
        count = outside["world_size"]
        raise ValueError(f"This is one of {count} processes already: leave out world_size.")
    if not outside and keys["world_size"] == 1 and not max_restarts:
        return _run_and_name_file(*arguments)
    config = Config(model, dataset, config_file_list or [], dict(config_dict or {}))
    check_processes(config, (outside or keys)["nproc"], max_restarts)
    if not outside and not is_vae(config):
        port = port or str(distributed.PORT)
        return _run(*arguments, nproc, keys["world_size"], ip, port, group_offset)
    # Once on each machine.
    if outside.get("local_rank", 0) == 0:
        download_missing(config)
    if outside:
        return _run_together(outside, *arguments)
    result, ended = distributed.launch(_work, arguments, keys, max_restarts)
    # Kept here if a caller needs them until the metrics are computed.
    for model_file in ended:
        discard(model_file)
    return result


def _work(keys: dict[str, Any], *arguments: Any) -> tuple[dict[str, Any] | None, list[str]]:
    """Run in each process; only the first has a result, and the model files of ended runs."""
    with states_kept(discarded_after=False) as ended:
        return _run_together(keys, *arguments), ended


def _run_together(
    keys: dict[str, Any], model: str, dataset: str, paths: Any, given: Any, saved: bool
) -> dict[str, Any] | None:
    settings = dict(given or {})
    config = Config(model, dataset, paths or [], dict(settings))
    if is_vae(config):
        on_gpu = config["use_gpu"] is not False
        distributed.join(keys, config["device"] if on_gpu else torch.device("cpu"))
        distributed.agree_on(plain_settings(config))
        if distributed.restarts() and not config["resume"]:
            settings["resume"] = True
    else:
        settings |= keys
    result = _run_and_name_file(model, dataset, paths, settings, saved)
    distributed.leave()
    return result if keys["local_rank"] + keys["offset"] == 0 else None


def _run_and_name_file(*arguments: Any) -> dict[str, Any]:
    tested_model_files.clear()
    result = run_recbole(*arguments)
    return {**result, "model_file": tested_model_files[-1] if tested_model_files else None}


def run_recboles(rank: int, *args: Any) -> None:
    """Run one process of several; as RecBole's."""
    _run_recboles(rank, *args)


def objective_function(
    config_dict: dict | None = None, config_file_list: list[str] | None = None, saved: bool = True
) -> dict:
    """Train and evaluate one trial of a search; as RecBole's."""
    return recboles.objective_function(config_dict, config_file_list, saved)


def load_data(config: Config, console: bool = True) -> tuple[Any, ...]:
    """Read and split a config's data as a run does, with its log, in the file alone if asked to.

    Returns:
        data set, training, validation and test data.
    """
    init_logger(config)
    for handler in logging.getLogger().handlers:
        if handler.name == CONSOLE and not console:
            handler.setLevel(logging.CRITICAL)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    return dataset, *data_preparation(config, dataset)


def new_model(config: Config, dataset: Any) -> Any:
    """Return an untrained model for a data set, with the weights that a run starts from."""
    init_seed(config["seed"], config["reproducibility"])
    return get_model(config["model"])(config, dataset).to(config["device"])


def load_data_and_model(model_file: str, check: Callable[[Config], None] | None = None) -> tuple:
    """Load a saved model and rebuild its data set and dataloaders; no code in the file runs.

    Args:
        model_file: path of the model.
        check: raises a ``ValueError`` if the model of a config is not wanted, before data are read.

    Returns:
        config, model, dataset, train_data, valid_data, test_data.

    Raises:
        ValueError: the file is missing, corrupt or no model file; or its data set has changed.
    """
    checkpoint = load_checkpoint(model_file, "cpu", {"optimizer"})
    with _fitting(model_file):
        config = restored_config(checkpoint["config"])
        if check is not None:
            check(config)
        dataset, *loaders = load_data(config)
        return config, _restored_model(config, checkpoint, loaders[0]._dataset), dataset, *loaders


def load_data_of(model_file: str, model: Any) -> tuple[Any, ...]:
    """Rebuild what a model was trained on, of which
    :func:`~recbole_evcf.serving.saved_model.load_model` has read the file; as :func:`load_data`.

    A data set that has changed is a ``ValueError``.
    """
    with _fitting(model_file):
        dataset, *loaders = load_data(model.config)
        _check_items(model.item_catalogue.tokens, dataset.field2id_token[dataset.iid_field][1:])
        return dataset, *loaders


@contextmanager
def _fitting(model_file: str) -> Iterator[None]:
    try:
        yield
    # The data set and the model raise anything.
    except Exception as error:
        reason = one_line(error)
        if not isinstance(error, (ValueError, OSError, NotImplementedError)):
            cause = f"{type(error).__name__}: {shortened(reason, 200)}"
            reason = (
                f"it does not fit its data set, which has changed since, or is corrupt ({cause})."
            )
        raise ValueError(f"{model_file} cannot be used: {reason}") from error


def _restored_model(config: Config, checkpoint: dict, dataset: Any) -> Any:
    # Some RecBole models store all pairs of users and items.
    pairs = dataset.num(config["USER_ID_FIELD"]) * dataset.num(config["ITEM_ID_FIELD"])
    # Not a subclass, which may learn more than its file holds.
    learned = config.model_class in MODELS
    with AllocationBound(checkpoint["state_dict"], more=2 * pairs):
        model = new_model(config, _with_nothing_to_learn(dataset) if learned else dataset)
    # RecBole's other kinds of models have none. Columns of other items would be scored unnoticed.
    if "item_catalogue" in checkpoint:
        trained = ItemCatalogue.from_plain(checkpoint["item_catalogue"])
        _check_items(trained.tokens, model.item_catalogue.tokens)
        model.item_catalogue = trained
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    return model


def _with_nothing_to_learn(dataset: Any) -> Any:
    """A data set whose users have their input histories, and from which a constructor that would
    learn what the model file holds learns nothing."""
    bare = copy.copy(dataset)
    bare.input_histories, bare.inter_feat = Histories.input_of(dataset), dataset.inter_feat[:0]
    return bare


def _check_items(trained: np.ndarray, now: np.ndarray) -> None:
    if not np.array_equal(trained, now):
        raise ValueError(
            f"it was trained on {len(trained):,} items that are not those of its data set now: "
            "the data set has changed since."
        )
