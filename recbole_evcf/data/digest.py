"""Digests that tell data apart, in files and in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories
from recbole_evcf.results import digest

__all__ = ["digest_of_files", "digest_of_loaders", "digest_of_training"]


def digest_of_files(config: Config) -> str:
    """Return the digest of a data set's atomic files: new data under an old name are other data."""
    folder, name = Path(config["data_path"]), config["dataset"]
    files = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path for path in files if path.name.startswith(f"{name}.") and path.is_file())
    return digest(*(part for path in found for part in (path.name, path)))


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
