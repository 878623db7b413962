"""RecBole's loading of a data set and its split by ratio without Python loops over interactions.

Each function gives the result of one of RecBole's; the last downloads what this machine lacks.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset

__all__ = [
    "count",
    "download_missing",
    "grouped_index",
    "parts_by_ratio",
    "rows_of",
    "with_c_engine",
]

# Encodings in which a byte below 128 is the ASCII character.
ASCII_LIKE = ("utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1", "cp1252")
CHUNK = 2**22


def with_c_engine(read_csv: Callable) -> Callable:
    """``pandas.read_csv`` that reads with the C engine what is asked of the Python engine.

    What the C engine refuses, or might take otherwise, is read as asked, with the same errors.
    """

    def read(path: str, *args: Any, **options: Any) -> pd.DataFrame:
        separator, encoding = options.get("delimiter") or "", options.get("encoding") or "utf-8"
        if options.get("engine") != "python" or not _reads_alike(path, separator, encoding):
            return read_csv(path, *args, **options)
        # The precision with which the Python engine reads numbers.
        fast = {**options, "engine": "c", "float_precision": "high"}
        try:
            return read_csv(path, *args, **fast)
        except Exception:
            return read_csv(path, *args, **options)

    return read


def _reads_alike(path: str, separator: str, encoding: str) -> bool:
    """Whether both engines read a file alike, if they read it.

    They differ in lines with more fields than the header, in lines of white space, in quotes that
    do not close, and at zero bytes.
    """
    if len(separator) != 1 or not separator.isascii() or encoding.lower() not in ASCII_LIKE:
        return False
    with open(path, "rb") as file:
        expected = file.readline().count(separator.encode())
        return expected > 0 and all(
            b"\0" not in lines
            and b'"' not in lines
            and (_count_in_lines(lines, ord(separator)) == expected).all()
            for lines in iter(lambda: file.read(CHUNK) + file.readline(), b"")
        )


def _count_in_lines(lines: bytes, character: int) -> np.ndarray:
    values = np.frombuffer(lines, dtype=np.uint8)
    starts = np.flatnonzero(values[:-1] == ord("\n")) + 1
    return np.add.reduceat(values == character, np.append(0, starts), dtype=np.int32)


def count(values: Any = ()) -> Counter:
    """``collections.Counter`` of an array, in the same order: that of first appearance."""
    if not hasattr(values, "dtype"):
        return Counter(values)
    codes, unique = pd.factorize(values, use_na_sentinel=False)
    return Counter(dict(zip(unique, np.bincount(codes, minlength=len(unique)).tolist())))


def grouped_index(keys: np.ndarray) -> list[list[int]]:
    """The places of each key, keys in order of first appearance."""
    order, counts = _by_group(keys)
    return [places.tolist() for places in np.split(order, counts.cumsum()[:-1])]


def parts_by_ratio(
    keys: np.ndarray, split_points: Callable[[int], Sequence[int]]
) -> list[np.ndarray]:
    """Split the places of each key at given points.

    Args:
        keys: group of each interaction, (interactions,).
        split_points: from the size of a group to where its parts end, but for the last.

    Returns:
        the places of each part, group after group.
    """
    order, counts = _by_group(keys)
    sizes, of_size = np.unique(counts, return_inverse=True)
    bounds = np.array([[0, *split_points(int(size)), size] for size in sizes])[of_size]
    place = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    group = np.repeat(np.arange(len(counts)), counts)
    return [
        order[(place >= start[group]) & (place < end[group])]
        for start, end in zip(bounds.T[:-1], bounds.T[1:])
    ]


def _by_group(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes, _ = pd.factorize(keys)
    return np.argsort(codes, kind="stable"), np.bincount(codes)


def rows_of(columns: dict[str, torch.Tensor], index: Any) -> dict[str, torch.Tensor] | None:
    """Rows of an ``Interaction``'s columns by an array of places or a mask.

    Returns:
        None if ``index`` is neither, or of a kind that is left to RecBole.
    """
    if not isinstance(index, (np.ndarray, torch.Tensor)) or index.ndim != 1:
        return None
    if isinstance(index, np.ndarray):
        # Floats and objects, which may hold whole numbers, are RecBole's.
        if not np.can_cast(index.dtype, np.int64):
            return None
        # PyTorch takes no array that runs backwards, nor every kind of whole number.
        kind = np.bool_ if index.dtype == np.bool_ else np.int64
        index = torch.from_numpy(np.ascontiguousarray(index, kind))
    if index.dtype != torch.bool:
        if index.is_floating_point() or index.is_complex():
            return None
        index = index.long()
    return {name: column[index.to(column.device)] for name, column in columns.items()}


def download_missing(config: Config) -> None:
    """Download the config's data set if RecBole would, before several processes look for it.

    Raises:
        ValueError: RecBole does not know it, or it could not be downloaded.
    """
    if not os.path.exists(config["data_path"]):
        _Unread(config)._download()


class _Unread(Dataset):
    """RecBole's data set before it reads a file."""

    def _from_scratch(self) -> None:
        self._get_preset()
