"""Checkpoints without code: what ``torch.load(path, weights_only=True)`` reads.

RecBole pickles its whole ``Config`` object, and some models keep NumPy or SciPy matrices beside
their weights. Here all of it becomes tensors, numbers, strings, lists and dicts, and back.
"""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config

from recbole_evcf.config.files import existing
from recbole_evcf.utils.archive import check_archive, map_archive, read_archive, write_archive

__all__ = [
    "from_plain",
    "load_checkpoint",
    "note_tested",
    "plain_config",
    "restored_config",
    "save_checkpoint",
    "tested_model_files",
    "to_plain",
]

# They have RecBole unpickle files, or join a group of processes over the network.
NOT_FROM_A_FILE = (
    "dataset_save_path",
    "dataloaders_save_path",
    "local_rank",
    "save_dataloaders",
    "save_dataset",
)
# A dict with this key stands for an object that a weights-only file cannot hold.
KIND = "__recbole_evcf__"
# A file that is made to mislead may name a size without having the content.
MAX_TEXT_BYTES = 2**28
MAX_LENGTH = 2**27
_tested: list[list[str]] = []


def to_plain(value):
    """Turn arrays, sparse matrices, tuples and NumPy numbers into what the file can hold.

    Raises:
        TypeError: the value is of a kind that cannot be written without code.
    """
    # First, since np.float64 is also a float.
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if scipy.sparse.issparse(value):
        return _plain_sparse(value)
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return _tagged("tuple", items=[to_plain(item) for item in value])
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    raise TypeError(f"A {type(value).__name__} cannot be written to a checkpoint.")


def from_plain(value):
    """The inverse of :func:`to_plain`."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if KIND not in value:
        return {key: from_plain(item) for key, item in value.items()}
    return _RESTORE[value[KIND]](value)


def _tagged(kind: str, **fields) -> dict:
    return {KIND: kind, **fields}


def _plain_array(array: np.ndarray) -> dict:
    kind = "matrix" if isinstance(array, np.matrix) else "array"
    if array.dtype.kind in "OUS":
        return _tagged(kind, items=array.tolist(), dtype=array.dtype.str)
    # A copy, since a tensor cannot share memory with a read-only or reversed array.
    return _tagged(kind, tensor=torch.from_numpy(np.array(array, subok=False)))


def _restore_array(value: Mapping) -> np.ndarray:
    if "tensor" in value:
        return value["tensor"].cpu().numpy()
    dtype, items = np.dtype(value["dtype"]), value["items"]
    if dtype.itemsize * len(items) > MAX_TEXT_BYTES:
        raise ValueError(f"texts of {dtype.itemsize} bytes each are too long.")
    return np.array(items, dtype=dtype)


def _plain_sparse(matrix) -> dict:
    coo = matrix.tocoo()
    return _tagged(
        "sparse",
        format=matrix.format,
        # SciPy's newer sparse arrays multiply otherwise than its matrices do.
        array=isinstance(matrix, scipy.sparse.sparray),
        shape=list(matrix.shape),
        row=torch.from_numpy(np.array(coo.row)),
        column=torch.from_numpy(np.array(coo.col)),
        data=torch.from_numpy(np.array(coo.data)),
    )


def _restore_sparse(value: Mapping):
    if max(value["shape"]) > MAX_LENGTH:
        raise ValueError(f"a matrix of shape {value['shape']} is too large.")
    container = scipy.sparse.coo_array if value["array"] else scipy.sparse.coo_matrix
    data, row, column = (value[key].cpu().numpy() for key in ("data", "row", "column"))
    return container((data, (row, column)), shape=tuple(value["shape"])).asformat(value["format"])


_RESTORE = {
    "array": _restore_array,
    "matrix": lambda value: np.asmatrix(_restore_array(value)),
    "sparse": _restore_sparse,
    "tuple": lambda value: tuple(from_plain(item) for item in value["items"]),
}


def plain_config(config) -> dict:
    """The settings of a RecBole ``Config`` from which the same ``Config`` can be made again.

    What ``Config`` derives by itself (device, types of model and metrics) and how a run goes on is
    left out.
    """
    derived = {
        "device",
        "single_spec",
        "local_rank",
        "world_size",
        "nproc",
        "ip",
        "port",
        "offset",
        "eval_type",
        "valid_metric_bigger",
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "train_neg_sample_args",
        "valid_neg_sample_args",
        "test_neg_sample_args",
        "data_path",
        "resume",
        "resumable",
    }
    settings = {}
    for key, value in config.final_config_dict.items():
        if key in derived:
            continue
        with contextlib.suppress(TypeError):
            settings[key] = to_plain(value)
    settings["train_neg_sample_args"] = to_plain(_negative_sampling(config))
    settings["data_path"] = _parent_of_data(config)
    return settings


def restored_config(settings: Mapping) -> Config:
    """The ``Config`` of which :func:`plain_config` made these settings.

    A model file can neither have another file unpickled nor a connection made.
    """
    settings = from_plain(settings)
    for key in NOT_FROM_A_FILE:
        settings.pop(key, None)
    return _SavedConfig(settings)


class _SavedConfig(Config):
    """A ``Config`` of saved settings, whatever the present command line says."""

    is_restored = True

    def __init__(self, settings: dict):
        self._settings = settings
        super().__init__(settings["model"], settings["dataset"], config_file_list=[])

    def _load_config_files(self, file_list):
        return copy.deepcopy(self._settings)

    def _load_cmd_line(self):
        return {}


def _negative_sampling(config) -> dict | None:
    # Config turns "none" into a dict that it would not take back.
    arguments = config["train_neg_sample_args"]
    return None if arguments["distribution"] == "none" else arguments


def _parent_of_data(config) -> str:
    # Config appends the name of the data set to the path it is given.
    return os.path.dirname(config["data_path"])


def save_checkpoint(state: dict, path: str) -> None:
    """Write a checkpoint under a temporary name, then rename it: under ``path`` it is whole.

    Args:
        state: with RecBole's keys; ``config`` a ``Config``.
        path: the file.

    Raises:
        OSError: it cannot be written, the disk being full for one; an older file is left as it was.
    """
    state = {**state, "config": plain_config(state["config"])}
    state["other_parameter"] = to_plain(state["other_parameter"])
    for key in ("epoch", "cur_step", "best_valid_score"):
        if key in state:
            state[key] = to_plain(state[key])
    write_archive(path, state)


def load_checkpoint(path: str, device: str | torch.device = "cpu", mapped: bool = False) -> dict:
    """Read a checkpoint; no code in the file runs.

    Args:
        path: the file.
        device: where its tensors are wanted.
        mapped: leave tensors in the file, from which they are read when they are used.

    Raises:
        ValueError: there is no such file, or it is damaged, or no checkpoint of this kind.
    """
    existing(path, "There is no model file")
    try:
        with warnings.catch_warnings():
            # Of a file that is none: PyTorch's thoughts on its pickle.
            warnings.simplefilter("ignore")
            check_archive(path)
            state = map_archive(path) if mapped else read_archive(path, device)
    # Damaged bytes make zipfile and the unpickler raise exceptions of every kind.
    except Exception as error:
        raise ValueError(
            f"{path} is not a model file that can be read without running code from it "
            "(truncated or damaged, not a model file, or written by RecBole without "
            "recbole_evcf): train and save the model again with recbole_evcf imported."
        ) from error
    if not isinstance(state, dict) or not {"config", "state_dict"} <= state.keys():
        raise ValueError(f"{path} holds no model: its keys config and state_dict are missing.")
    return state


@contextlib.contextmanager
def tested_model_files() -> Iterator[list[str]]:
    """Within it, the model files whose models are tested are listed: RecBole tells nobody."""
    _tested.append([])
    try:
        yield _tested[-1]
    finally:
        _tested.pop()


def note_tested(model_file: str) -> None:
    """List a model file for :func:`tested_model_files`."""
    if _tested:
        _tested[-1].append(model_file)
