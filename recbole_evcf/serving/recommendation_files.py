"""Recommendations to the users of a file of histories, or of a data set, into a file."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import UserHistories, counted
from recbole_evcf.utils.files import atomic_write

# Powers of ten, all exact.
POWERS = np.array([float(f"1e{n}") for n in range(20)])
# Progress is too short to measure a speed below this.
MANY_USERS = 100


@dataclass(frozen=True)
class Wanted:
    """What users get, and how files of their histories are read, as the command's options say."""

    topk: int
    include_seen: bool
    allow: tuple[str, ...] | None
    block: tuple[str, ...]
    separator: str | None


class Done(NamedTuple):
    """A line on the file that was written, and remarks."""

    line: str
    remarks: list[str]


def recommend_to_file(
    recommender: Recommender,
    users: UserHistories,
    output: str,
    wanted: Wanted,
    no_bar: bool | None = None,
) -> Done:
    """Write a file of recommendations, whole or not at all; its ending gives the format.

    Args:
        recommender: what recommends.
        users: whom to.
        output: a file of one of the endings in :data:`WRITERS`.
        wanted: what, and how much of it.
        no_bar: whether no progress is shown; None shows it on a terminal.

    Raises:
        ValueError: the model cannot recommend.
    """
    lists = wanted.allow, wanted.block
    frames = recommender.recommend_in_batches(users, wanted.topk, not wanted.include_seen, *lists)
    start, done = perf_counter(), Counter[str]()
    with (
        atomic_write(output) as temporary,
        tqdm(total=len(users), desc="recommending", unit=" users", disable=no_bar) as bar,
    ):
        write = WRITERS[os.path.splitext(output)[1].lower()]
        write(temporary, _counting(_ahead(frames), done, bar))
    seconds = perf_counter() - start
    speed = f" ({len(users) / seconds:,.0f} a second)" if len(users) >= MANY_USERS else ""
    line = f"{output}: {counted(done['rows'], 'item')} for {counted(done['users'], 'user')}{speed}"
    remarks = [f"{remark}." for remark in users.remarks]
    if 0 < done["of_prior"] == done["users"]:
        remarks.append(
            "no history has an item that the model knows, so that all users get its prior "
            "recommendation: are these the item tokens of its data set?"
        )
    elif done["of_prior"]:
        remarks.append(
            "the model's prior recommendation went to "
            f"{counted(done['of_prior'], 'user')} with no known item: from_prior marks them."
        )
    if done["users"] < len(users):
        remarks.append(f"{counted(len(users) - done['users'], 'user')} had no item left.")
    return Done(line, remarks)


def _ahead(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the frames; the next is made while one is written."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = pool.submit(next, frames, None)
            yield frame


def _counting(
    frames: Iterable[pd.DataFrame], done: Counter[str], bar: tqdm
) -> Iterator[pd.DataFrame]:
    """Yield the frames, counting their users and rows."""
    for frame in frames:
        yield frame
        first = frame["rank"] == 1
        of_prior = int((first & frame["from_prior"]).sum())
        done.update(users=int(first.sum()), of_prior=of_prior, rows=len(frame))
        bar.update(int(first.sum()))


def shortest_decimals(scores: pd.Series) -> list[float]:
    """Numbers of single precision as those with the fewest decimals that round to them, which
    Python prints with these decimals: 0.1, where the exact number is 0.100000001490116."""
    exact = scores.to_numpy(np.float64)
    found, sizes = np.full(len(exact), np.nan), np.abs(exact)
    left = np.flatnonzero((sizes > 1e-10) & (sizes < 1e5))
    # Fewer than 6 digits are 6 that end in zeros; 9 are always enough.
    for digits in range(6, 10):
        scale = POWERS[digits - 1 - np.floor(np.log10(sizes[left])).astype(int)]
        found[left] = np.rint(exact[left] * scale) / scale
        left = left[found[left].astype(np.float32) != exact[left]]
    others = np.flatnonzero(found.astype(np.float32) != exact)
    found[others] = scores.iloc[others].astype(str).astype(float)
    return found.tolist()


def _write_csv(path: str, frames: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, frame in enumerate(frames):
            if number == 0:
                writer.writerow(frame.columns)
            columns = frame.assign(score=shortest_decimals(frame["score"])).items()
            writer.writerows(zip(*(column.tolist() for _, column in columns)))


def _write_json_lines(path: str, frames: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for frame in frames:
            scores = shortest_decimals(frame["score"])
            names = "user", "item", "from_prior"
            users, items, marks = (frame[name].tolist() for name in names)
            starts = [*np.flatnonzero(frame["rank"] == 1).tolist(), len(frame)]
            for start, stop in pairwise(starts):
                ranked = {"items": items[start:stop], "scores": scores[start:stop]}
                line = {"user": users[start], **ranked, "from_prior": marks[start]}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_parquet(path: str, frames: Iterable[pd.DataFrame]) -> None:
    import pyarrow as arrow
    from pyarrow.parquet import ParquetWriter

    text, number = arrow.string(), arrow.float32()
    columns = {"user": text, "item": text, "score": number, "rank": arrow.int32()}
    schema = arrow.schema({**columns, "from_prior": arrow.bool_()})
    with ParquetWriter(path, schema) as writer:
        for frame in frames:
            writer.write_table(arrow.Table.from_pandas(frame, schema, preserve_index=False))


# By the endings of files.
WRITERS = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": _write_parquet}
