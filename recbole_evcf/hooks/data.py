"""RecBole's data sets, splits, samplers and dataloaders."""

import os
import pickle
import sys
from collections.abc import Callable
from contextlib import nullcontext
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data import utils
from recbole.data.dataset import Dataset
from recbole.sampler import RepeatableSampler, Sampler

from recbole_evcf.config.checks import is_ours
from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.data import atomic
from recbole_evcf.data.dataloader import (
    FullSortHistoryDataLoader,
    TrainUserDataLoader,
    held_out_phases,
    ranked_phases,
)
from recbole_evcf.data.loading_settings import check_label
from recbole_evcf.data.strong_generalization import build_parts, is_sg, split_seed, times_of
from recbole_evcf.hooks.wrapping import exchange, extends, hook
from recbole_evcf.model.fold_in import learns_from_samples
from recbole_evcf.trainer.generators import drawing_apart

# The keys that turn on and locate RecBole's saved data sets and splits.
DATASET_KEYS, SPLIT_KEYS = with_role(Role.SAVED_DATASET), with_role(Role.SAVED_SPLIT)


@extends(Dataset)
class CheckedDataset(Dataset):
    """A RecBole data set that checks its files and is split by users on request."""

    def build(self) -> list:
        """Split the data set into its training, validation and test parts."""
        config, seed = self.config, self.config["split_seed"]
        in_time = config["eval_args"]["order"] == "TO" and not self.benchmark_filename_list
        if is_sg(config):
            parts = build_parts(self)
        else:
            # Without the plugin, RecBole's models run when all times are missing, and so they do.
            if in_time and (is_ours(config) or self.time_field not in self.inter_feat):
                times_of(self)
            # RecBole shuffles with torch's generator, which the model's seed has set.
            with nullcontext() if seed is None else drawing_apart(split_seed(config)):
                parts = super().build()
        # Now the times get the precision of RecBole's other numbers.
        for feat in (each.inter_feat for each in (self, *parts)):
            for name in (self.time_field, f"{self.time_field}{config['LIST_SUFFIX']}"):
                if name in feat and feat[name].is_floating_point():
                    feat[name] = feat[name].to(torch.float32)
        return parts

    def __str__(self) -> str:
        return super().__str__().replace("\n", ", ")

    def _dataframe_to_interaction(self, data: Any) -> Any:
        """Keep times in double precision while the data set is split."""
        feat, field = super()._dataframe_to_interaction(data), self.time_field
        if data is self.inter_feat and field in data and feat[field].is_floating_point():
            times = data[field]
            # Each row of a numerical feature is a list.
            times = times.tolist() if times.dtype == object else times
            feat[field] = torch.from_numpy(np.array(times, dtype=np.float64))
        return feat

    def _load_feat(self, filepath: str, source: Any) -> Any:
        suffix = getattr(source, "value", source)
        # RecBole opens no file from which it needs no columns.
        if self._get_load_and_unload_col(suffix)[0] == set():
            return super()._load_feat(filepath, source)
        user, item = self.uid_field, self.iid_field
        required = {"inter": (user, item), "user": (user,), "item": (item,)}.get(suffix, ())
        form = filepath, self.config["field_separator"], self.config["encoding"]
        types = atomic.check_header(*form, required)
        atomic.check_columns(self.config, suffix, filepath, types, required)
        with atomic.reading(*form):
            feat = super()._load_feat(filepath, source)
        if suffix == "inter" and feat is not None:
            self._check_interactions(filepath, feat)
        return feat

    def _check_interactions(self, path: str, feat: Any) -> None:
        ours = is_sg(self.config) or is_ours(self.config)
        # RecBole keeps missing ids in benchmark files, where they become padding.
        if ours and self.benchmark_filename_list is not None:
            for field in (self.uid_field, self.iid_field):
                missing = np.flatnonzero(feat[field].isna())
                if len(missing):
                    # The header is line 1.
                    raise ValueError(f"{path}, line {missing[0] + 2}: there is no {field}.")
        times = feat[self.time_field] if self.time_field in feat else np.zeros(0)
        if self.config["eval_args"]["order"] == "TO" and (absent := int(pd.isna(times).sum())):
            getLogger().warning(
                f"{path}: {absent:,} of {len(feat):,} interactions have no {self.time_field}; "
                "in the order TO they are given the mean of all times."
            )

    def _load_user_or_item_feat(
        self, token: str, dataset_path: str, source: Any, field_name: str
    ) -> Any:
        path = os.path.join(dataset_path, f"{token}.{source.value}")
        if not os.path.isfile(path):
            atomic.check_columns(self.config, source.value, path, {})
        return super()._load_user_or_item_feat(token, dataset_path, source, field_name)


@hook(utils, "get_dataloader")
def _get_dataloader(original: Callable, config: Config, phase: str) -> Any:
    if phase == "train":
        samples = learns_from_samples(config["model"]) if is_sg(config) else not is_ours(config)
        return original(config, phase) if samples else TrainUserDataLoader
    return FullSortHistoryDataLoader if _ranks_by_history(config) else original(config, phase)


@hook(utils, "create_samplers")
def _create_samplers(original: Callable, config: Config, dataset: Dataset, built: list) -> Any:
    repeatable = config["repeatable"]
    if not _ranks_by_history(config):
        return original(config, dataset, built)
    if not is_sg(config):
        return ranked_phases(built, repeatable)
    sampler, (train, *held_out) = None, built
    if learns_from_samples(config["model"]):
        drawing = config["train_neg_sample_args"]
        sampler_class = RepeatableSampler if repeatable else Sampler
        sampler = sampler_class("train", train, drawing["distribution"], drawing["alpha"])
        sampler = sampler.set_phase("train")
    return [sampler, *held_out_phases(held_out, repeatable)]


def _ranks_by_history(config: Config) -> bool:
    of_all_items = set(config["eval_args"]["mode"].values()) == {"full"}
    return is_sg(config) or (is_ours(config) and of_all_items)


@hook(utils, "create_dataset")
def _create_dataset(original: Callable, config: Config) -> Dataset:
    if config["dataset"] == "ml-100k":
        getLogger().info(f"ml-100k is read from {os.path.abspath(config['data_path'])}")
    if any(config[key] for key in DATASET_KEYS):
        dataset = _from_pickle(original, config, DATASET_KEYS)
        # A saved data set keeps its old config, which would decide its split.
        dataset.config = config
        return dataset
    named = config["dataset_save_path"]
    # RecBole unpickles any file with its default name.
    config["dataset_save_path"] = os.path.join(os.devnull, "none")
    try:
        dataset = original(config)
    finally:
        config["dataset_save_path"] = named
    check_label(config, dataset.inter_feat.columns)
    if arrow := sys.modules.get("pyarrow"):
        # pandas' strings are gone, but their memory is kept: 0.4 GB or more for 10 million rows.
        arrow.default_memory_pool().release_unused()
    return dataset


@hook(utils, "load_split_dataloaders")
def _load_split_dataloaders(original: Callable, config: Config) -> Any:
    asked = any(config[key] for key in SPLIT_KEYS)
    return _from_pickle(original, config, SPLIT_KEYS) if asked else None


def _from_pickle(original: Callable, config: Config, keys: tuple[str, ...]) -> Any:
    getLogger().warning(
        f"{' and '.join(keys)} make RecBole write and read a pickle, which runs the code in it: "
        "use only files that you made."
    )
    try:
        return original(config)
    except (EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the file that {' or '.join(keys)} names or has made is corrupt ({error}): remove it."
        ) from error


# RecBole compares these with a saved file's; the split's seed is one of our keys.
exchange(utils, "dataset_arguments", [*utils.dataset_arguments, "split_seed"])
