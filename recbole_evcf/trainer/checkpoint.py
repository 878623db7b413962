"""Checkpoints hold no code: ``torch.load(path, weights_only=True)`` reads them.

RecBole pickles its whole ``Config`` object, and some models keep NumPy or SciPy matrices beside
their weights. Here all of it becomes tensors, numbers, strings, lists and dicts, and back.
"""

import contextlib
import copy
import os
import warnings
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config

from recbole_evcf.config.files import existing
from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.utils.files import read_archive, write_archive

# A dict with this key stands for an object that a weights-only file cannot hold.
KIND = "__recbole_evcf__"
# A hostile file may name a size without having the content.
MAX_STRING_BYTES = 2**28
MAX_LENGTH = 2**27
# Files whose models were tested, the last one last.
tested_model_files: list[str] = []


def to_plain(value: Any) -> Any:
    """Convert arrays, sparse matrices, tuples and NumPy numbers to what a checkpoint can hold.

    Raises:
        TypeError: a value of this kind cannot be written without code.
    """
    # First, since np.float64 is also a float.
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, np.ndarray):
        kind = "matrix" if isinstance(value, np.matrix) else "array"
        if value.dtype.kind in "OUS":
            return {KIND: kind, "items": value.tolist(), "dtype": value.dtype.str}
        return {KIND: kind, "tensor": _tensor(value)}
    if scipy.sparse.issparse(value):
        return _plain_sparse(value)
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return {KIND: "tuple", "items": [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    raise TypeError(f"A {type(value).__name__} cannot be written to a checkpoint.")


def from_plain(value: Any) -> Any:
    """Invert :func:`to_plain`."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if KIND not in value:
        return {key: from_plain(item) for key, item in value.items()}
    return _RESTORE[value[KIND]](value)


def copied(value: Any) -> Any:
    """Copy the tensors in dicts and lists into the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def fixed_weights(model: torch.nn.Module) -> set[str]:
    """Names of the weights that no epoch changes."""
    return {name for name, weight in model.named_parameters() if not weight.requires_grad}


def _tensor(array: np.ndarray) -> torch.Tensor:
    # A copy, since a tensor cannot share memory with a read-only or reversed array.
    return torch.from_numpy(np.array(array, subok=False))


def _plain_sparse(matrix: Any) -> dict:
    coo = matrix.tocoo()
    return {
        KIND: "sparse",
        "format": matrix.format,
        # SciPy's newer sparse arrays multiply differently from its matrices.
        "array": isinstance(matrix, scipy.sparse.sparray),
        "shape": list(matrix.shape),
        "row": _tensor(coo.row),
        "column": _tensor(coo.col),
        "data": _tensor(coo.data),
    }


def _restored_array(value: Mapping) -> np.ndarray:
    if "tensor" in value:
        return value["tensor"].cpu().numpy()
    dtype, items = np.dtype(value["dtype"]), value["items"]
    if dtype.itemsize * len(items) > MAX_STRING_BYTES:
        raise ValueError(f"strings of {dtype.itemsize} bytes each are too long.")
    return np.array(items, dtype=dtype)


def _restored_sparse(value: Mapping) -> Any:
    if max(value["shape"]) > MAX_LENGTH:
        raise ValueError(f"a matrix of shape {value['shape']} is too large.")
    container = scipy.sparse.coo_array if value["array"] else scipy.sparse.coo_matrix
    data, row, column = (value[key].cpu().numpy() for key in ("data", "row", "column"))
    return container((data, (row, column)), shape=tuple(value["shape"])).asformat(value["format"])


_RESTORE = {
    "array": _restored_array,
    "matrix": lambda value: np.asmatrix(_restored_array(value)),
    "sparse": _restored_sparse,
    "tuple": lambda value: tuple(from_plain(item) for item in value["items"]),
}


def plain_config(config: Config) -> dict[str, Any]:
    """Return the settings from which :func:`restored_config` makes the same ``Config`` again."""
    settings = {}
    left_out = with_role(Role.NOT_IN_A_FILE)
    for key, value in config.final_config_dict.items():
        if key not in left_out:
            with contextlib.suppress(TypeError):
                settings[key] = to_plain(value)
    # Config turns "none" into a dict that it would not take back.
    sampling = config["train_neg_sample_args"]
    none = sampling["distribution"] == "none"
    settings["train_neg_sample_args"] = None if none else to_plain(sampling)
    # Config appends the name of the data set to the path it is given.
    settings["data_path"] = os.path.dirname(config["data_path"])
    return settings


def restored_config(settings: Mapping[str, Any]) -> Config:
    """Make the ``Config`` of which :func:`plain_config` returned these settings.

    A model file can neither have another file unpickled nor a connection made.
    """
    restored = from_plain(settings)
    left_out = with_role(Role.NOT_FROM_A_FILE)
    return _SavedConfig({k: v for k, v in restored.items() if k not in left_out})


class ConfigOfSettings(Config):
    """A ``Config`` of what it is given, whatever this process's command line says."""

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}


class _SavedConfig(ConfigOfSettings):
    is_restored = True

    def __init__(self, settings: dict[str, Any]):
        self._settings = settings
        super().__init__(settings["model"], settings["dataset"], config_file_list=[])

    def _load_config_files(self, file_list: list[str]) -> dict[str, Any]:
        return copy.deepcopy(self._settings)


def save_checkpoint(state: dict[str, Any], path: str) -> None:
    """Write a checkpoint, with RecBole's keys and a ``Config``, atomically.

    Raises:
        OSError: it cannot be written, for example on a full disk; an older file stays as it was.
    """
    plain = {**state, "config": plain_config(state["config"])}
    for key in {"other_parameter", "epoch", "cur_step", "best_valid_score"} & state.keys():
        plain[key] = to_plain(state[key])
    write_archive(path, plain)


def load_checkpoint(
    path: str, device: str | torch.device = "cpu", without: Set[str] = frozenset()
) -> dict[str, Any]:
    """Read a checkpoint onto a device, but for some of its parts; no code in the file runs.

    Raises:
        ValueError: there is no such file, or it is corrupt, or no checkpoint of this kind.
    """
    existing(path, "There is no model file")
    try:
        with warnings.catch_warnings():
            # PyTorch warns of the pickle of a file that is not a checkpoint.
            warnings.simplefilter("ignore")
            state = read_archive(path, device, without)
    # Corrupt bytes make zipfile and the unpickler raise exceptions of every kind.
    except Exception as error:
        raise ValueError(
            f"{path} is not a model file that can be read without running code from it "
            "(truncated or corrupt, not a model file, or written by RecBole without "
            "recbole_evcf): train and save the model again with recbole_evcf imported."
        ) from error
    if not isinstance(state, dict) or not {"config", "state_dict"} <= state.keys():
        raise ValueError(f"{path} holds no model: its keys config and state_dict are missing.")
    return state
