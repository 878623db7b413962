"""``recbole-evcf recommend``: ranked items for new users, or for those of the data set."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from time import perf_counter

import pandas as pd
from tqdm import tqdm

from recbole_evcf import quick_start
from recbole_evcf.commands.options import tell
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import (
    UserHistories,
    counted,
    data_set_users,
    read_histories,
    read_tokens,
    unknown_items,
)
from recbole_evcf.utils.files import atomic_write, check_target

__all__ = ["main"]

# Progress is too short to measure a speed below this.
MANY_USERS = 100


def main(options: argparse.Namespace, words: list[str]) -> int:
    """Recommend items to users."""
    write = _writer(options.output)
    if options.topk < 1:
        raise ValueError(f"--topk must be at least 1, not {options.topk}.")
    lists = options.allow_items, options.block_items
    for path in (options.histories, *lists, options.model_file):
        if path is not None and os.path.realpath(path) == os.path.realpath(options.output):
            raise ValueError(f"--output would replace {path}, which is read: give another name.")
    allow, block = (path and read_tokens(path) for path in lists)
    recommender, users = _recommender_and_users(options)
    for path, tokens in zip(lists, (allow, block)):
        if unknown := set(tokens or ()) - set(recommender.item_tokens):
            _say(f"{path} names {unknown_items(unknown)}.")
    frames = recommender.recommend_in_batches(
        users, options.topk, not options.include_seen, allow, block or ()
    )
    start, done = perf_counter(), Counter[str]()
    with (
        atomic_write(options.output) as temporary,
        tqdm(total=len(users), desc="recommending", unit=" users", disable=None) as bar,
    ):
        write(temporary, _counting(frames, done, bar))
    _report(options.output, users, done, perf_counter() - start)
    return 0


def _recommender_and_users(options: argparse.Namespace) -> tuple[Recommender, UserHistories]:
    if options.histories is None:
        _, model, _, train_data, valid_data, _ = quick_start.load_data_and_model(options.model_file)
        return Recommender(model), data_set_users(train_data, valid_data)
    recommender = Recommender.load(options.model_file)
    items, names = recommender.catalogue, recommender.field_names
    return recommender, read_histories(options.histories, items, names, options.separator)


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


def _report(output: str, users: UserHistories, done: Counter[str], seconds: float) -> None:
    speed = f" ({len(users) / seconds:,.0f} a second)" if len(users) >= MANY_USERS else ""
    print(f"{output}: {counted(done['rows'], 'item')} for {counted(done['users'], 'user')}{speed}")
    for remark in users.remarks:
        _say(f"{remark}.")
    if done["of_prior"] == done["users"]:
        _say(
            "no history has an item that the model knows, so that all users get its prior "
            "recommendation: are these the item tokens of its data set?"
        )
    elif done["of_prior"]:
        _say(
            "the model's prior recommendation went to "
            f"{counted(done['of_prior'], 'user')} with no known item: from_prior marks them."
        )
    if done["users"] < len(users):
        _say(f"{counted(len(users) - done['users'], 'user')} had no item left to recommend.")


def _say(sentence: str) -> None:
    tell(f"recbole-evcf: {sentence}")


def _write_csv(path: str, frames: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        for number, frame in enumerate(frames):
            frame.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def _write_json_lines(path: str, frames: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for frame in frames:
            # The shortest decimals that round-trip in single precision.
            scores = frame["score"].astype(str).astype(float)
            users = frame.assign(score=scores).groupby("user", sort=False)
            users = users.agg({"item": list, "score": list, "from_prior": "first"})
            for user, items, scores, mark in users.itertuples():
                line = {"user": user, "items": items, "scores": scores, "from_prior": mark}
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


_WRITERS = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": _write_parquet}


def _writer(path: str) -> Callable[[str, Iterable[pd.DataFrame]], None]:
    """Return what writes frames in the format that a name ends in, if it can be written."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in _WRITERS:
        raise ValueError(f"{path}: recommendations are written to {', '.join(_WRITERS)} files.")
    check_target(path)
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError("Parquet needs the package pyarrow: pip install pyarrow")
    return _WRITERS[ending]
