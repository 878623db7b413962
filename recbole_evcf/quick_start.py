"""RecBole's quick start, for its models and ours, also in new processes.

A function is pickled by the name of its module. Those here make a process that is started with
them (``torch.multiprocessing``, a Ray worker) import the plugin by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import quick_start as recbole_quick_start
from recbole.quick_start.quick_start import run_recbole
from recbole.utils import get_model, init_logger, init_seed

from recbole_evcf import distributed
from recbole_evcf.config.checks import (
    can_resume,
    check_processes,
    finished_config,
    is_vae,
    plain_settings,
    read_config_file,
    resolve_config_files,
)
from recbole_evcf.config.files import DEFAULT_DATASET, DEFAULT_MODEL
from recbole_evcf.data.item_catalogue import ItemCatalogue
from recbole_evcf.data.loading import download_missing
from recbole_evcf.launch import Layout, launch
from recbole_evcf.serving.allocation import bound_by_weights
from recbole_evcf.trainer.checkpoint import load_checkpoint, restored_config, tested_model_files
from recbole_evcf.trainer.state_files import discard, states_kept
from recbole_evcf.utils.text import one_line, shortened

__all__ = [
    "PROCESSES",
    "load_data_and_model",
    "objective_function",
    "planned_run",
    "run",
    "run_recbole",
    "run_recboles",
]

# Arguments of :func:`run` that say in how many processes it runs, and where.
PROCESSES = ("nproc", "world_size", "ip", "port", "group_offset")

# What making the data set and the model raises when the file or the data are not what they were.
MISFITS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError)
MISFITS = (*MISFITS, RuntimeError, SyntaxError, TypeError)

_run = recbole_quick_start.run
_run_recboles = recbole_quick_start.run_recboles
_objective_function = recbole_quick_start.objective_function


def planned_run(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    settings: Mapping[str, Any],
) -> tuple[Config, list[str], dict[str, Any]]:
    """Everything that :func:`run` will read, checked before anything starts.

    Args:
        model: its name; None for that of the config files, or the default.
        dataset: its name; None for that of the config files, or the default.
        config_files: paths, or names of shipped files.
        settings: keys that override those of the files.

    Returns:
        the finished config, the paths of the config files, and the settings to run with: the state
        of a run that can be resumed is kept unless they say otherwise.

    Raises:
        ValueError: a setting or a file is wrong.
    """
    files = resolve_config_files(config_files)
    given: dict[str, Any] = {}
    for path in files:
        given.update(read_config_file(path))
    model = model or given.get("model", DEFAULT_MODEL)
    dataset = dataset or given.get("dataset", DEFAULT_DATASET)
    config = finished_config(model, dataset, files, settings)
    keep = config["resumable"] is None and can_resume(config)
    return config, files, {**settings, **({"resumable": True} if keep else {})}


def run(
    model,
    dataset,
    config_file_list=None,
    config_dict=None,
    saved=True,
    nproc=1,
    world_size=-1,
    ip="localhost",
    port="5678",
    group_offset=0,
):
    """Train and evaluate a model, in several processes if asked to; arguments as of RecBole's.

    Returns:
        dict: the result of ``run_recbole``, and ``model_file``, the path of the trained model,
        None if it was not saved. On all machines but the first None instead.

    Raises:
        ValueError: a setting is wrong, or the processes do not fit together.
        ChildProcessError: a process was killed, or failed otherwise.
        ConnectionError: another machine is gone, or a process there failed.
    """
    layout = Layout.checked(nproc, world_size, group_offset, ip, port)
    if layout.world_size == 1:
        return _run_and_name_file(model, dataset, config_file_list, config_dict, saved)
    config = finished_config(model, dataset, config_file_list or [], config_dict)
    check_processes(config, layout.nproc)
    if not is_vae(config):
        return _run(
            *(model, dataset, config_file_list, config_dict, saved),
            *(layout.nproc, layout.world_size, ip, port, group_offset),
        )
    download_missing(config)
    arguments = (model, dataset, config_file_list, config_dict, saved)
    results = launch(_run_one_of_several, arguments, layout, plain_settings(config))
    if results is None:
        return None
    result, ended = results
    # Here, where somebody may have asked to keep them until the metrics are given.
    for model_file in ended:
        discard(model_file)
    return result


def _run_and_name_file(*arguments) -> dict:
    with tested_model_files() as files:
        result = run_recbole(*arguments)
    return {**result, "model_file": files[-1] if files else None}


def _run_one_of_several(place: int, layout: Layout, model, dataset, files, settings, saved):
    """What each process does; only the first has a result, and the model files of ended runs."""
    distributed.share_processor(layout.nproc)
    distributed.find_others(layout.ip, layout.port)
    of_process = {
        "local_rank": place,
        "offset": layout.group_offset,
        "nproc": layout.nproc,
        "world_size": layout.world_size,
        "ip": layout.ip,
        "port": layout.port,
    }
    with states_kept(discarded_after=False) as ended:
        settings = {**(settings or {}), **of_process}
        result = _run_and_name_file(model, dataset, files, settings, saved)
    first = distributed.is_first()
    distributed.leave()
    return (result, ended) if first else None


def run_recboles(rank, *args):
    """One process of several; as RecBole's."""
    _run_recboles(rank, *args)


def objective_function(config_dict=None, config_file_list=None, saved=True):
    """Train and evaluate one trial of a search; as RecBole's."""
    return _objective_function(config_dict, config_file_list, saved)


def load_data_and_model(model_file):
    """Load a saved model, and make its data set and dataloaders anew; no code in the file runs.

    Args:
        model_file (str): path of a model saved with recbole_evcf imported.

    Returns:
        tuple: config, model, dataset, train_data, valid_data, test_data.

    Raises:
        ValueError: the file is missing, damaged or no model file; or the data set has changed and
            has other items than the model was trained on.
    """
    checkpoint = load_checkpoint(model_file, "cpu")
    try:
        return _made_anew(checkpoint)
    except (ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"{model_file} cannot be used: {one_line(error)}") from error
    except MISFITS as error:
        raise ValueError(
            f"{model_file} does not fit its data set, which has changed since, or is damaged "
            f"({type(error).__name__}: {shortened(one_line(error), 200)})."
        ) from error


def _made_anew(checkpoint: dict) -> tuple:
    config = restored_config(checkpoint["config"])
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    logger = getLogger()
    logger.info(config)
    dataset = create_dataset(config)
    logger.info(dataset)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    # Some of RecBole's models keep all pairs of users and items.
    pairs = dataset.num(config["USER_ID_FIELD"]) * dataset.num(config["ITEM_ID_FIELD"])
    with bound_by_weights(checkpoint["state_dict"], more=2 * pairs):
        model = get_model(config["model"])(config, train_data._dataset)
    model = model.to(config["device"])
    _check_items(checkpoint, model)
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))
    return config, model, dataset, train_data, valid_data, test_data


def _check_items(checkpoint: dict, model) -> None:
    """Columns of other items would be scored without anyone noticing."""
    # An earlier version's file has none, nor has that of a model of RecBole's other kinds.
    if "item_catalogue" not in checkpoint:
        return
    trained = ItemCatalogue.from_plain(checkpoint["item_catalogue"]).tokens
    if not np.array_equal(trained, model.item_catalogue.tokens):
        raise ValueError(
            f"it was trained on {len(trained):,} items that are not those of its data set now: "
            "the data set has changed since."
        )
