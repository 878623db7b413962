"""What the commands do with a trained model: ``recommend``, ``export`` and ``inspect``."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from time import perf_counter

import pandas as pd
from tqdm import tqdm

from recbole_evcf import quick_start
from recbole_evcf.commands.options import tell
from recbole_evcf.report.table import number
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import (
    counted,
    data_set_users,
    read_histories,
    read_tokens,
    unknown_items,
)
from recbole_evcf.utils.files import atomic_write, check_target
from recbole_evcf.utils.text import printable

# Progress is too short to measure a speed below this.
MANY_USERS = 100


def export(options: argparse.Namespace, words: list[str]) -> None:
    """Write a trained model as an ONNX file."""
    from recbole_evcf.serving.onnx_export import INPUT, OUTPUT, export_onnx

    check_target(options.output)
    recommender = Recommender.load(options.model_file, device="cpu")
    export_onnx(recommender, options.output)
    size = os.path.getsize(options.output)
    items = f"{len(recommender.item_tokens):,} items"
    print(f"{options.output}: float32 {INPUT} (users, {items}) -> {OUTPUT}, {size / 1e6:,.1f} MB")


def inspect(options: argparse.Namespace, words: list[str]) -> None:
    """Look inside a trained model."""
    from recbole_evcf.inspection.inspection import inspect_model
    from recbole_evcf.inspection.report import check_folder

    check_folder(options.output)
    inspection = inspect_model(options.model_file, options.dataset)
    files = inspection.report(options.output)
    width = max(map(len, inspection.facts))
    for name, value in inspection.facts.items():
        print(f"{name:<{width}}  {printable(number(value, '.1f'))}")
    page = os.path.join(options.output, files[0])
    print(f"\n{page} and {len(files) - 1} CSV files beside it")


def recommend(options: argparse.Namespace, words: list[str]) -> None:
    """Rank items for new users, or for those of the data set."""
    output, topk = options.output, options.topk
    ending = os.path.splitext(output)[1].lower()
    if ending not in _WRITERS:
        raise ValueError(f"{output}: recommendations are written to {', '.join(_WRITERS)} files.")
    check_target(output)
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError("Parquet needs the package pyarrow: pip install pyarrow")
    if topk < 1:
        raise ValueError(f"--topk must be at least 1, not {topk}.")
    lists = options.allow_items, options.block_items
    for path in (options.histories, *lists, options.model_file):
        if path is not None and os.path.realpath(path) == os.path.realpath(output):
            raise ValueError(f"--output would replace {path}, which is read: give another name.")
    allow, block = (path and read_tokens(path) for path in lists)
    if options.histories is None:
        _, model, _, *parts, _ = quick_start.load_data_and_model(options.model_file)
        recommender, users = Recommender(model), data_set_users(*parts)
    else:
        recommender = Recommender.load(options.model_file)
        items, names = recommender.catalogue, recommender.field_names
        users = read_histories(options.histories, items, names, options.separator)
    for path, tokens in zip(lists, (allow, block)):
        if unknown := set(tokens or ()) - set(recommender.item_tokens):
            tell(f"recbole-evcf: {path} names {unknown_items(unknown)}.")
    unseen_only = not options.include_seen
    frames = recommender.recommend_in_batches(users, topk, unseen_only, allow, block or ())
    start, done = perf_counter(), Counter[str]()
    with (
        atomic_write(output) as temporary,
        tqdm(total=len(users), desc="recommending", unit=" users", disable=None) as bar,
    ):
        _WRITERS[ending](temporary, _counting(frames, done, bar))
    seconds = perf_counter() - start
    speed = f" ({len(users) / seconds:,.0f} a second)" if len(users) >= MANY_USERS else ""
    print(f"{output}: {counted(done['rows'], 'item')} for {counted(done['users'], 'user')}{speed}")
    remarks = [f"{remark}." for remark in users.remarks]
    if done["of_prior"] == done["users"]:
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
    for remark in remarks:
        tell(f"recbole-evcf: {remark}")


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
