"""``recbole-evcf recommend``: ranked items for new users, or for those of the data set."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from time import perf_counter

import pandas as pd
from tqdm import tqdm

from recbole_evcf import quick_start
from recbole_evcf.serving.read_histories import read_histories, read_tokens
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import UserHistories, counted, data_set_users, listed
from recbole_evcf.serving.write_recommendations import check_output, write_recommendations
from recbole_evcf.utils.text import printable

__all__ = ["main"]

# Progress is too short to measure a speed below this.
MANY_USERS = 100


def main(options: argparse.Namespace, words: list[str]) -> int:
    """Recommend items to users."""
    check_output(options.output)
    if options.topk < 1:
        raise ValueError(f"--topk must be at least 1, not {options.topk}.")
    lists = options.allow_items, options.block_items
    for path in (options.histories, *lists, options.model_file):
        if path is not None and os.path.realpath(path) == os.path.realpath(options.output):
            raise ValueError(f"--output would replace {path}, which is read: give another name.")
    allow, block = (path and read_tokens(path) for path in lists)
    recommender, users = _recommender_and_users(options)
    for path, tokens in zip(lists, (allow, block)):
        unknown = set(tokens or ()) - set(recommender.item_tokens)
        if unknown:
            named = f"{path} names {counted(len(unknown), 'item')}"
            _say(f"{named} that the model does not know: {listed(unknown)}.")
    frames = recommender.recommend_in_batches(
        users,
        options.topk,
        exclude_seen=not options.include_seen,
        allow=allow,
        block=block or (),
    )
    start, done = perf_counter(), Counter[str]()
    with tqdm(total=len(users), desc="recommending", unit=" users", disable=None) as bar:
        write_recommendations(options.output, _counting(frames, done, bar))
    _report(options.output, users, done, perf_counter() - start)
    return 0


def _recommender_and_users(options: argparse.Namespace) -> tuple[Recommender, UserHistories]:
    if options.histories is None:
        _, model, _, train_data, valid_data, _ = quick_start.load_data_and_model(options.model_file)
        return Recommender(model), data_set_users(train_data, valid_data)
    recommender = Recommender.load(options.model_file)
    names, separator = recommender.field_names, options.separator
    items = recommender.catalogue
    return recommender, read_histories(
        options.histories, items, *names, separator=separator, show_progress=None
    )


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
    print(f"recbole-evcf: {printable(sentence)}", file=sys.stderr)
