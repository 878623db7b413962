"""Filtered data sets in files: RecBole's ``save_dataset`` without pickle, never of other settings.

RecBole pickles the whole ``Dataset``, its ``Config`` included. Here a file holds what loading made:
tensors, numbers and texts. It is read again if every setting that decides the loading is the same,
and the bytes of the data set's files are. The split is not in it and follows the present settings.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from logging import getLogger

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType, set_color
from recbole.utils.argument_list import dataset_arguments

from recbole_evcf.data.digest import digest_of_files
from recbole_evcf.data.settled_file import read_settled, short_digest, write_settled

__all__ = ["LOADING_KEYS", "dataset_settings", "load_dataset", "save_dataset"]

# The config keys that decide what is loaded: RecBole's list lacks the later ones.
LOADING_KEYS = (*dataset_arguments, "dataset", "discretization", "encoding", "numerical_features")
# Of another process, or made again from the rest.
NOT_KEPT = ("config", "dataset_path", "field2token_id", "logger")
# The mark of a dict that stands for what a file of tensors and texts cannot hold.
KIND = "kind"
ENUMS = {"FeatureType": FeatureType, "FeatureSource": FeatureSource}


def dataset_settings(config) -> dict:
    """All that decides what a data set holds once it is loaded and filtered, as JSON's types."""
    settings = {key: config[key] for key in LOADING_KEYS}
    return {**settings, "data": digest_of_files(config)}


def load_dataset(config) -> Dataset | None:
    """The saved data set of a config's settings, if there is one.

    It is looked for at ``dataset_save_path``, else under the name that :func:`save_dataset` gives.
    """
    settings = dataset_settings(config)
    named = config["dataset_save_path"]
    path = named or _path(config, settings)
    dataset = read_settled(path, settings, lambda state: _dataset(config, state), bool(named))
    if dataset is not None:
        getLogger().info(set_color("Load filtered dataset from", "pink") + f": [{path}]")
    return dataset


def _dataset(config, state: dict) -> Dataset:
    dataset = Dataset.__new__(Dataset)
    vars(dataset).update(_restored(state))
    vars(dataset).update(config=config, logger=getLogger(), dataset_path=config["data_path"])
    dataset.field2token_id = {
        field: {token: number for number, token in enumerate(tokens)}
        for field, tokens in dataset.field2id_token.items()
    }
    for field in (dataset.uid_field, dataset.iid_field):
        last = len(dataset.field2id_token[field]) - 1
        if not dataset.inter_feat[field].between(0, last).all():
            raise ValueError(f"{field} of nobody.")
    return dataset


def save_dataset(dataset: Dataset) -> None:
    """Write a data set as it was loaded into ``checkpoint_dir``, whole or not at all."""
    settings = dataset_settings(dataset.config)
    path = _path(dataset.config, settings)
    state = {name: value for name, value in vars(dataset).items() if name not in NOT_KEPT}
    write_settled(path, settings, _plain(state))
    getLogger().info(set_color("Saving filtered dataset into", "pink") + f": [{path}]")


def _path(config, settings: dict) -> str:
    name = f"{config['dataset']}-dataset-{short_digest(settings)}.pth"
    return os.path.join(config["checkpoint_dir"], name)


def _plain(value):
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Enum):
        return {KIND: type(value).__name__, "value": value.value}
    if isinstance(value, dict):
        return {KIND: "dict", "keys": _plain(list(value)), "values": _plain(list(value.values()))}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, pd.DataFrame):
        columns = [_plain(value[name].to_numpy()) for name in value]
        return {KIND: "frame", "names": _plain(list(value)), "columns": columns}
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    raise TypeError(f"A {type(value).__name__} of a data set cannot be saved.")


def _plain_array(array: np.ndarray) -> dict:
    if array.dtype.kind not in "OU":
        # A copy, since a tensor cannot share memory with a read-only array.
        return {KIND: "array", "tensor": torch.from_numpy(np.array(array))}
    if array.dtype.kind == "U" or all(isinstance(item, str) for item in array):
        return {KIND: "texts", "json": json.dumps(array.tolist()), "dtype": array.dtype.str}
    # The sequences of a token_seq or float_seq column.
    parts = [np.asarray(item) for item in array]
    return {
        KIND: "sequences",
        "values": torch.from_numpy(np.concatenate(parts)),
        "lengths": [len(part) for part in parts],
    }


def _restored(value):
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value[KIND]
    if kind in ENUMS:
        return ENUMS[kind](value["value"])
    return _RESTORE[kind](value)


def _restored_sequences(value: dict) -> np.ndarray:
    parts = np.split(value["values"].numpy(), np.cumsum(value["lengths"])[:-1])
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array


def _restored_frame(value: dict) -> pd.DataFrame:
    columns = map(_restored, value["columns"])
    return pd.DataFrame(dict(zip(value["names"], columns)))


_RESTORE = {
    "dict": lambda value: dict(zip(_restored(value["keys"]), _restored(value["values"]))),
    "frame": _restored_frame,
    "array": lambda value: value["tensor"].numpy(),
    "texts": lambda value: np.array(json.loads(value["json"]), dtype=value["dtype"]),
    "sequences": _restored_sequences,
}
