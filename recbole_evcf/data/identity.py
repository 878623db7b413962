"""What tells data apart: the ids of users and items that a model was made for, and digests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories
from recbole_evcf.results import digest

# What LDiffRec reads beside the atomic files, under a name without the data set's.
EMBEDDINGS = "item_emb.npy"


class ItemCatalogue:
    """The items of a model in the order of its columns, RecBole's padding item left out.

    Args:
        tokens: the items' original names, (items,), each once.
        counts: how many training interactions each has, (items,).
    """

    def __init__(self, tokens: np.ndarray, counts: np.ndarray) -> None:
        self.tokens, self.counts = tokens, counts

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def columns(self) -> dict[str, int]:
        """The column of each token."""
        return {token: column for column, token in enumerate(self.tokens)}

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> ItemCatalogue:
        """The items of the training part of a RecBole ``Dataset``, as they are numbered there."""
        items = np.asarray(dataset.inter_feat[dataset.iid_field])
        counts = np.bincount(items, minlength=dataset.item_num)[1:]
        tokens = list(map(str, dataset.field2id_token[dataset.iid_field][1:]))
        return cls(np.array(tokens, dtype=object), counts)

    def to_plain(self) -> dict:
        """Return a string and a tensor, which a model file holds and which are read in no time."""
        tokens = json.dumps(self.tokens.tolist(), ensure_ascii=False)
        return {"tokens": tokens, "counts": torch.from_numpy(self.counts.astype(np.int64))}

    @classmethod
    def from_plain(cls, plain: Mapping) -> ItemCatalogue:
        """The inverse of :meth:`to_plain`; parts that do not fit together are a ``ValueError``."""
        try:
            tokens, counts = json.loads(plain["tokens"]), plain["counts"].cpu().numpy()
            sound = isinstance(tokens, list) and 0 < len(tokens) == len(set(tokens))
            sound = sound and counts.shape == (len(tokens),) and counts.dtype.kind in "iuf"
            "".join(tokens).encode()
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError):
            sound = False
        if not sound:
            raise ValueError("its item tokens are corrupt.")
        return cls(np.array(tokens, dtype=object), counts)


class Vocabulary:
    """The original ids of the users and items that a model was made for, in RecBole's order."""

    def __init__(self, dataset: Dataset) -> None:
        tokens = dataset.field2id_token
        fields = (dataset.iid_field, dataset.uid_field)
        self.tokens = {field: tokens[field] for field in fields if field in tokens}

    def __deepcopy__(self, memo: object) -> Vocabulary:
        # Never written to: RecBole's FLOP counter copies the whole model.
        return self

    def check(self, dataset: Dataset) -> None:
        """Raise a ValueError unless a data set numbers its users and items in the same way:
        otherwise a model would score others than it is asked for."""
        for field, known in self.tokens.items():
            found = dataset.field2id_token.get(field, ())
            if found is not known and not np.array_equal(found, known):
                raise ValueError(
                    f"the model was made for {len(known) - 1:,} values of {field}, and the "
                    f"dataloader's data set {dataset.dataset_name!r} has others "
                    f"({len(found) - 1:,}): evaluate with dataloaders of the model's own data set."
                )


class _Unread(Dataset):
    """RecBole's data set before it reads a file."""

    _from_scratch = Dataset._get_preset


def download_missing(config: Config) -> None:
    """Download the config's data set where there is none.

    Raises:
        ValueError: RecBole does not know it, or it could not be downloaded.
    """
    if not os.path.isdir(config["data_path"]):
        _Unread(config)._download()


def digest_of_data(config: Config) -> str:
    """Return the digest of a data set's files: new data under an old name are other data. Left out
    is its config file, of which the settings count elsewhere.

    Raises:
        ValueError: there are no data, nor can they be downloaded.
    """
    download_missing(config)
    folder, name = Path(config["data_path"]), config["dataset"]
    found = [path for path in folder.iterdir() if path.name.startswith(f"{name}.")]
    files = sorted({*found, folder / EMBEDDINGS} - {folder / f"{name}.yaml"})
    return digest(*(part for path in files if path.is_file() for part in (path.name, path)))


def digest_of_part(dataset: Dataset, *histories: Histories) -> str:
    """Return the digest of the ids of users and items, of the interactions of a part of RecBole's
    ``Dataset`` in their order, and of histories that are shown to the model."""
    fields = (dataset.uid_field, dataset.iid_field)
    names = [[str(token) for token in dataset.field2id_token[field]] for field in fields]
    shown = [array for each in histories for array in (each.starts, each.columns)]
    return digest(*names, *(dataset.inter_feat[field] for field in fields), *shown)


def digest_of_loaders(loaders: Sequence) -> str:
    """Return the digest of the data of RecBole's dataloaders, of which some may be None."""
    parts = []
    for loader in filter(None, loaders):
        # Under the split by users the shown part of a history is no interaction of the phase.
        seen = [loader._sampler.seen] if isinstance(loader._sampler, RankedPhase) else []
        parts.append(digest_of_part(loader._dataset, *seen))
    return digest(*parts)
