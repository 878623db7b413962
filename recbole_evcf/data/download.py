"""A data set that RecBole knows and this machine lacks."""

from __future__ import annotations

import os

from recbole.data.dataset import Dataset

__all__ = ["download_missing"]


def download_missing(config) -> None:
    """Download the config's data set if RecBole would, before several processes look for it.

    Raises:
        ValueError: RecBole does not know it, or it could not be downloaded.
    """
    if not os.path.exists(config["data_path"]) and not config["dataset_save_path"]:
        _Unread(config)._download()


class _Unread(Dataset):
    """RecBole's data set before it reads a file."""

    def _from_scratch(self) -> None:
        self._get_preset()
