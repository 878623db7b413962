"""Digests that tell data apart, in files and in memory."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path

from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import Dataset

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories
from recbole_evcf.results import digest
from recbole_evcf.utils.text import one_line

__all__ = ["digest_of_data", "digest_of_loaders", "digest_of_training"]

# What LDiffRec reads beside the atomic files, under a name without the data set's.
EMBEDDINGS = "item_emb.npy"


def digest_of_data(config: Config) -> str:
    """Return the digest of a data set's files: new data under an old name are other data.

    Data sets that RecBole knows are downloaded.

    Raises:
        ValueError: there are no data, nor can they be downloaded.
    """
    if not os.path.isdir(config["data_path"]):
        try:
            # RecBole downloads what it knows when it meets it first; of a copy, since loading
            # writes into the config.
            create_dataset(copy.deepcopy(config))
        except Exception as error:
            raise ValueError(one_line(error)) from error
    folder, name = Path(config["data_path"]), config["dataset"]
    found = [path for path in folder.iterdir() if path.name.startswith(f"{name}.")]
    files = sorted(path for path in [*found, folder / EMBEDDINGS] if path.is_file())
    return digest(*(part for path in files for part in (path.name, path)))


def digest_of_loaders(loaders: Sequence) -> str:
    """Return the digest of the interactions that dataloaders hold, in their order, and of the
    items' names.

    Args:
        loaders: RecBole's dataloaders; None where there is none.
    """
    parts: list = []
    for loader in filter(None, loaders):
        dataset, phase = loader._dataset, loader._sampler
        parts.append([str(token) for token in dataset.field2id_token[dataset.iid_field]])
        parts += [dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.iid_field]]
        if isinstance(phase, RankedPhase):
            # Under the split by users the shown part of a history is no interaction of the phase.
            parts += [phase.seen.starts, phase.seen.columns]
    return digest(*parts)


def digest_of_training(dataset: Dataset, histories: Histories) -> str:
    """Return the digest of the ids of users and items, who is trained on, and all that is shown to
    the model.

    Args:
        dataset: the training part of RecBole's ``Dataset``.
        histories: what users are scored from, held-out ones too.
    """
    parts: list = []
    for field in (dataset.uid_field, dataset.iid_field):
        parts.append([str(token) for token in dataset.field2id_token[field]])
        parts.append(dataset.inter_feat[field])
    return digest(*parts, histories.starts, histories.columns)
