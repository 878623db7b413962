"""Repairs of how RecBole downloads, reads and collects data; importing the module applies them."""

import importlib
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.evaluator import Collector
from recbole.utils import FeatureType

from recbole_evcf.hooks.wrapping import Forward, exchange, extends, hook

# 256 MB in NumPy's arrays of strings.
MAX_TOKEN_CHARACTERS = 2**26
# Far above any data set of ratings, which seldom compress to a twentieth.
MAX_UNPACKED_BYTES, MAX_EXPANSION = 200 * 10**9, 200


@extends(Dataset)
class RepairedDataset(Dataset):
    """A RecBole data set without the faults in its reading."""

    def _fill_nan(self) -> None:
        """RecBole fills in place on a column: pandas 3 fills a copy, and the gaps stay."""
        for frame in map(self.__getattribute__, self.feat_name_list):
            for field in frame:
                if self.field2type[field] == FeatureType.TOKEN:
                    frame[field] = frame[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    frame[field] = frame[field].fillna(frame[field].mean())
        super()._fill_nan()

    def _filter_nan_user_or_item(self) -> None:
        """RecBole looks for rows by their place after it has dropped some: where both a user and
        an item are missing it fails, or drops other rows.
        """
        fields = (self.uid_field, self.iid_field)
        names = zip(("inter_feat", "inter_feat", "user_feat", "item_feat"), fields * 2)
        for name, field in names:
            feat = getattr(self, name)
            if feat is None or field is None:
                continue
            missing = feat.index[feat[field].isna()]
            if len(missing):
                lines = ", ".join(map(str, missing[:5] + 2)) + (", ..." * (len(missing) > 5))
                self.logger.warning(
                    f"In {name}, {len(missing)} rows have no {field} and are left out (line "
                    f"{lines})."
                )
                feat.drop(missing, inplace=True)
        super()._filter_nan_user_or_item()

    def _download(self) -> None:
        """RecBole waits for other processes even where there are none (#2050), and leaves a
        half-written folder behind a failed download, which the next run takes for data.
        """
        path, distributed = self.dataset_path, torch.distributed
        existed, barrier = os.path.exists(path), distributed.barrier
        distributed.barrier = lambda *args, **kwargs: None
        try:
            super()._download()
        except BaseException as error:
            if not existed:
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, (OSError, RuntimeError, TypeError, zipfile.BadZipFile)):
                raise ValueError(
                    f"The data set [{self.dataset_name}] could not be downloaded to [{path}] "
                    f"({error}); put its atomic files under that path."
                ) from error
            raise
        finally:
            distributed.barrier = barrier
        if distributed.is_initialized():
            distributed.barrier()


@extends(Collector)
class RepairedCollector(Collector):
    """A RecBole collector that takes numbers and counts as well as tensors."""

    def get_data_struct(self) -> Any:
        """RecBole 1.2.1 calls `.cpu()` on numbers and counts, which metrics such as ItemCoverage
        and AveragePopularity need.
        """
        collected = self.data_struct._data_dict
        others = [name for name in collected if not isinstance(collected[name], torch.Tensor)]
        rest = {name: collected.pop(name) for name in others}
        struct = super().get_data_struct()
        collected.update(rest)
        struct._data_dict.update(rest)
        return struct


@hook(importlib.import_module("recbole.utils.url"), "extract_zip")
def _extract_within_bounds(original: Callable, path: str, folder: str) -> None:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    packed = os.path.getsize(path)
    if size > MAX_UNPACKED_BYTES or size > max(MAX_EXPANSION * packed, 2**20):
        raise zipfile.BadZipFile(f"the archive would unpack from {packed:,} to {size:,} bytes")
    original(path, folder)


def _length(value: Any) -> Any:
    if isinstance(value, pd.Series) and value.dtype == object:
        return value.map(len)
    return len(value)


def _with_whole_sequences(*args: Any, **kwargs: Any) -> pd.DataFrame:
    frame = pd.read_csv(*args, **kwargs)
    for name in frame:
        if name.endswith((":token_seq", ":float_seq")):
            frame[name] = frame[name].fillna("")
    return frame


def _array_of_tokens(values: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    if not args and not kwargs and isinstance(values, list) and values[:1] == ["[PAD]"]:
        widest = max(len(value) for value in values if isinstance(value, str))
        if widest * len(values) > MAX_TOKEN_CHARACTERS:
            return np.array(values, dtype=object)
    return np.array(values, *args, **kwargs)


# RecBole takes `Series.agg(len)` for the length of each sequence: pandas 3 gives one number, and
# sequence fields fail to load, or all get the number of rows as their length.
for _name in ("dataset", "kg_dataset", "sequential_dataset"):
    exchange(importlib.import_module(f"recbole.data.dataset.{_name}"), "len", _length)
# `Dataset._load_feat` fills missing sequences in place on a column: pandas 3 fills a copy, and the
# missing value is then split like a string, which fails.
exchange(dataset_module, "pd", Forward(pd, read_csv=_with_whole_sequences))
# `Dataset._remap` keeps tokens in an array that gives each the room of the longest: one id of
# 100,000 characters among 30,000 would take 12 GB. Python's strings then look the same.
exchange(dataset_module, "np", Forward(np, array=_array_of_tokens))
# torch warns of the read-only columns of pandas 3. RecBole drops the frame once its columns are
# tensors, so nothing else sees the writes.
_not_writable, _readers = "The given NumPy array is not writable", r"recbole\.data\."
warnings.filterwarnings("ignore", _not_writable, UserWarning, _readers)
# It still fills in vain in place, of which pandas 3 warns.
if hasattr(pd.errors, "ChainedAssignmentError"):
    warnings.filterwarnings("ignore", "", pd.errors.ChainedAssignmentError, _readers)
