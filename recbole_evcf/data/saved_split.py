"""Splits in files: RecBole's ``save_dataloaders`` without pickle, never of other settings or seeds.

RecBole pickles the dataloaders. Here a file holds what was split, in tensors, and is read again if
the data, the split's settings and its seed are the same. The dataloaders are made anew from it, so
that training on a saved split is training on the split itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from logging import getLogger

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import set_color

from recbole_evcf.data.saved_dataset import dataset_settings
from recbole_evcf.data.settled_file import read_settled, short_digest, write_settled
from recbole_evcf.data.strong_generalization import Split

__all__ = ["kept_parts", "kept_split"]


def kept_split(dataset, make: Callable[[], Split]) -> Split:
    """A split by users: from its file, or made and, with ``save_dataloaders``, written to it.

    Args:
        dataset: a loaded RecBole ``Dataset``, before it is reduced to the training items.
        make: makes the split of it.
    """
    rows = len(dataset.inter_feat)
    return _kept(dataset, make, _plain_split, lambda content: _restored_split(content, rows))


def kept_parts(dataset, make: Callable[[], list]) -> list:
    """The datasets of RecBole's own split: from their file, or made and written to it.

    Args:
        dataset: a loaded RecBole ``Dataset``.
        make: RecBole's ``build`` of it.
    """

    def restore(content: dict) -> list:
        parts = [_restored_part(dataset, part) for part in content["parts"]]
        # Only now: where a part is damaged, the data set must be as RecBole's `build` wants it.
        dataset._change_feat_format()
        dataset._drop_unused_col()
        return [dataset.copy(part) for part in parts]

    return _kept(dataset, make, _plain_parts, restore)


def _kept(dataset, make: Callable, plain: Callable, restore: Callable):
    config = dataset.config
    settings = _split_settings(dataset)
    name = f"{config['dataset']}-split-{short_digest(settings)}.pth"
    own_path = os.path.join(config["checkpoint_dir"], name)
    named = config["dataloaders_save_path"]
    path = named or own_path
    kept = read_settled(path, settings, restore, bool(named))
    if kept is not None:
        getLogger().info(set_color("Load split from", "pink") + f": [{path}]")
        return kept
    made = make()
    if config["save_dataloaders"]:
        write_settled(own_path, settings, plain(made))
        getLogger().info(set_color("Saving split into", "pink") + f": [{own_path}]")
    return made


def _split_settings(dataset) -> dict:
    config, feat = dataset.config, dataset.inter_feat
    # The rows as they are here, since places of rows are what a split is.
    digest = hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update(np.ascontiguousarray(np.asarray(feat[field], dtype=np.int64)))
    seeds = {key: config[key] for key in ("split_seed", "seed")}
    if seeds["split_seed"] is not None:
        # The split depends on it alone.
        del seeds["seed"]
    return {
        **dataset_settings(config),
        **seeds,
        "eval_args": config["eval_args"],
        # Earlier versions ordered by rounded times: their files hold other splits.
        "times": "double precision",
        "rows": digest.hexdigest(),
    }


def _plain_split(split: Split) -> dict:
    return {
        "train": torch.from_numpy(split.train),
        "fold_in": [torch.from_numpy(places) for places in split.fold_in],
        "target": [torch.from_numpy(places) for places in split.target],
        "dropped": dict(split.dropped),
    }


def _restored_split(content: dict, rows: int) -> Split:
    train, *held_out = (
        _checked(places, rows).numpy()
        for places in (content["train"], *content["fold_in"], *content["target"])
    )
    valid_fold_in, test_fold_in, valid_target, test_target = held_out
    dropped = dict(content["dropped"])
    return Split(train, (valid_fold_in, test_fold_in), (valid_target, test_target), dropped)


def _restored_part(dataset, content: dict) -> Interaction:
    for field in (dataset.uid_field, dataset.iid_field):
        _checked(content[field], dataset.num(field))
    part = Interaction(content)
    if any(len(column) != len(part) for column in content.values()):
        raise ValueError("columns of several lengths.")
    return part


def _checked(numbers: torch.Tensor, end: int) -> torch.Tensor:
    """Places or ids, if they are some: whole numbers from 0 to ``end`` - 1, (n,)."""
    if numbers.dtype != torch.int64 or numbers.dim() != 1:
        raise ValueError("no list of whole numbers.")
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < end:
        raise ValueError(f"a number that is not among {end}.")
    return numbers


def _plain_parts(parts: list) -> dict:
    return {"parts": [dict(part.inter_feat.interaction) for part in parts]}
