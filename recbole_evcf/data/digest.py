"""A short text that tells data apart, in files and in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories

__all__ = ["digest_of_files", "digest_of_loaders", "digest_of_training", "file_digest"]


def digest_of_files(config) -> str:
    """Of the bytes of a data set's atomic files: new data under an old name are other data."""
    digest = hashlib.sha256()
    folder, name = Path(config["data_path"]), config["dataset"]
    files = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(path for path in files if path.name.startswith(f"{name}.")):
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size} ".encode())
            _add_file(digest, path)
    return digest.hexdigest()


def file_digest(path: str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    _add_file(digest, path)
    return digest.hexdigest()


def _add_file(digest, path: str | Path) -> None:
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)


def digest_of_loaders(loaders: Sequence) -> str:
    """Of the interactions that dataloaders hold, in their order, and of the items' names.

    Args:
        loaders: RecBole's dataloaders; None where there is none.
    """
    digest = hashlib.sha256()
    for loader in filter(None, loaders):
        dataset, phase = loader._dataset, loader._sampler
        digest.update("\n".join(map(str, dataset.field2id_token[dataset.iid_field])).encode())
        for field in (dataset.uid_field, dataset.iid_field):
            digest.update(np.ascontiguousarray(dataset.inter_feat[field]))
        if isinstance(phase, RankedPhase):
            # Under the split by users the shown part of a history is no interaction of the phase.
            digest.update(phase.seen.starts.numpy())
            digest.update(phase.seen.columns.numpy())
    return digest.hexdigest()


def digest_of_training(dataset, histories: Histories) -> str:
    """Of the ids of users and items, who is trained on, and all that is shown to the model.

    Args:
        dataset: the training part of RecBole's ``Dataset``.
        histories: what users are scored from, held-out ones too.
    """
    digest = hashlib.sha256()
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update("\n".join(map(str, dataset.field2id_token[field])).encode())
        digest.update(np.ascontiguousarray(dataset.inter_feat[field]))
    for numbers in (histories.starts, histories.columns):
        digest.update(numbers.cpu().numpy())
    return digest.hexdigest()
