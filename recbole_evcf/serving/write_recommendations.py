"""Write recommendations as they come to CSV, JSON lines or Parquet, by the file's ending."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from types import ModuleType

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
    """Write frames one after the other, atomically.

    CSV and Parquet have the frames' columns and a row per recommended item, JSON lines a user in
    each line: ``{"user": "u1", "items": [...], "scores": [...], "from_prior": false}``.

    Args:
        path: the file; an older one is replaced.
        frames: as of :meth:`recbole_evcf.Recommender.recommend_in_batches`, each user's rows
            together; at least one frame.
    """
    with atomic_write(path) as temporary:
        _WRITERS[_ending(path)](temporary, frames)


def _write_csv(path: str, frames: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        for number, frame in enumerate(frames):
            frame.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def _write_json_lines(path: str, frames: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for frame in frames:
            # The shortest decimals that round-trip in single precision.
            scores = frame["score"].astype(str).astype(float)
            frame = frame.assign(score=scores.astype(object).where(np.isfinite(scores), None))
            users = frame.groupby("user", sort=False)
            users = users.agg({"item": list, "score": list, "from_prior": "first"})
            for user, items, scores, mark in users.itertuples():
                line = {"user": user, "items": items, "scores": scores, "from_prior": mark}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_parquet(path: str, frames: Iterable[pd.DataFrame]) -> None:
    arrow = _pyarrow()
    text, number = arrow.string(), arrow.float32()
    columns = {"user": text, "item": text, "score": number, "rank": arrow.int32()}
    schema = arrow.schema({**columns, "from_prior": arrow.bool_()})
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        for frame in frames:
            writer.write_table(arrow.Table.from_pandas(frame, schema, preserve_index=False))


_WRITERS = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": _write_parquet}


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "Parquet needs the package pyarrow, which is missing: pip install pyarrow"
        ) from None
    return pyarrow
