"""Recommendations into a file as they come: CSV, JSON lines or Parquet by its ending."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import closing
from math import isfinite

import numpy as np
import pandas as pd

from recbole_evcf.utils.files import atomic_write, check_target

__all__ = ["check_output", "write_recommendations"]


def check_output(path: str) -> None:
    """Raise a ``ValueError`` unless recommendations can be written under this name."""
    ending = _ending(path)
    if ending not in _WRITERS:
        raise ValueError(
            f"{path}: recommendations are written to {', '.join(_WRITERS)} files, by the ending "
            "of the name."
        )
    check_target(path)
    if ending == ".parquet":
        _pyarrow()


def write_recommendations(path: str, frames: Iterable[pd.DataFrame]) -> None:
    """Write frames one after the other; under ``path`` the file is whole or absent.

    CSV and Parquet have the frames' columns and a row for each recommended item, JSON lines a user
    in each line: ``{"user": "u1", "items": [...], "scores": [...], "from_prior": false}``.

    Args:
        path: the file; an older one is replaced.
        frames: as of :meth:`recbole_evcf.Recommender.recommend_in_batches`, each user's
            rows together; at least one frame.
    """
    with atomic_write(path) as temporary, closing(_WRITERS[_ending(path)](temporary)) as writer:
        for frame in frames:
            writer.write(frame)


class _Csv:
    def __init__(self, path: str):
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115 (close() below)
        self._header = True

    def write(self, frame: pd.DataFrame) -> None:
        frame.to_csv(self._file, index=False, header=self._header, lineterminator="\n")
        self._header = False

    def close(self) -> None:
        self._file.close()


class _JsonLines:
    def __init__(self, path: str):
        self._file = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115

    def write(self, frame: pd.DataFrame) -> None:
        starts = np.flatnonzero(frame["rank"].to_numpy() == 1)
        ends = np.append(starts[1:], len(frame))
        users, marks = (frame[name].to_numpy()[starts].tolist() for name in ("user", "from_prior"))
        items = frame["item"].tolist()
        # The shortest decimals that read back as the same single-precision numbers.
        scores = frame["score"].astype(str).astype(float).tolist()
        lines = [
            json.dumps(
                {
                    "user": user,
                    "items": items[start:end],
                    "scores": [s if isfinite(s) else None for s in scores[start:end]],
                    "from_prior": mark,
                },
                ensure_ascii=False,
            )
            for user, mark, start, end in zip(users, marks, starts, ends)
        ]
        self._file.writelines(f"{line}\n" for line in lines)

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: str):
        self._pyarrow, parquet = _pyarrow()
        arrow = self._pyarrow
        self._schema = arrow.schema(
            [
                ("user", arrow.string()),
                ("item", arrow.string()),
                ("score", arrow.float32()),
                ("rank", arrow.int32()),
                ("from_prior", arrow.bool_()),
            ]
        )
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, frame: pd.DataFrame) -> None:
        table = self._pyarrow.Table.from_pandas(frame, self._schema, preserve_index=False)
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


_WRITERS = {".csv": _Csv, ".jsonl": _JsonLines, ".parquet": _Parquet}


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "Parquet needs the package pyarrow, which is missing: pip install pyarrow"
        ) from None
    return pyarrow, pyarrow.parquet
