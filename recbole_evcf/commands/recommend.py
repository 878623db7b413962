"""``recbole-evcf recommend``: ranked items for new users, or for those of the data set."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from time import perf_counter

import pandas as pd
from tqdm import tqdm

from recbole_evcf import quick_start
from recbole_evcf.commands.options import parse
from recbole_evcf.serving.read_histories import read_histories, read_tokens
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import UserHistories, counted, data_set_users, listed
from recbole_evcf.serving.write_recommendations import check_output, write_recommendations
from recbole_evcf.utils.text import printable

__all__ = ["main"]

# Fewer are done before a speed can be told.
MANY_USERS = 100


def main(arguments: list[str]) -> int:
    """Recommend; arguments and exit code as :func:`recbole_evcf.cli.main`."""
    options, _ = parse("recommend", arguments)
    check_output(options.output)
    _recommend(options)
    return 0


def _recommend(options: argparse.Namespace) -> None:
    if options.topk < 1:
        raise ValueError(f"--topk must be at least 1, not {options.topk}.")
    _check_not_read(options)
    allow, block = (
        path and read_tokens(path) for path in (options.allow_items, options.block_items)
    )
    if options.histories is None:
        recommender, users = _of_data_set(options.model_file)
    else:
        recommender = Recommender.load(options.model_file)
        users = _of_file(options, recommender)
    for path, tokens in ((options.allow_items, allow), (options.block_items, block)):
        _report_unknown(path, tokens, recommender)
    frames = recommender.recommend_in_batches(
        users,
        options.topk,
        exclude_seen=not options.include_seen,
        allow=allow,
        block=block or (),
    )
    start = perf_counter()
    tally = _Tally()
    write_recommendations(options.output, tally.of(_with_bar(frames, len(users))))
    _report(options.output, users, tally, perf_counter() - start)


def _check_not_read(options: argparse.Namespace) -> None:
    output = os.path.realpath(options.output)
    for path in (options.histories, options.allow_items, options.block_items, options.model_file):
        if path is not None and os.path.realpath(path) == output:
            raise ValueError(f"--output would replace {path}, which is read: give another name.")


def _of_data_set(model_file: str) -> tuple[Recommender, UserHistories]:
    _, model, _, train_data, valid_data, _ = quick_start.load_data_and_model(model_file)
    return Recommender(model), data_set_users(train_data, valid_data)


def _of_file(options: argparse.Namespace, recommender: Recommender) -> UserHistories:
    return read_histories(
        options.histories,
        recommender.catalogue,
        *recommender.field_names,
        separator=options.separator,
        show_progress=None,
    )


def _report_unknown(path: str | None, tokens: list[str] | None, recommender: Recommender) -> None:
    unknown = sorted(set(tokens or ()) - set(recommender.item_tokens))
    if unknown:
        named = f"{path} names {counted(len(unknown), 'item')}"
        _say(f"{named} that the model does not know: {listed(unknown)}.")


def _with_bar(frames: Iterable[pd.DataFrame], n_users: int) -> Iterator[pd.DataFrame]:
    with tqdm(total=n_users, desc="recommending", unit=" users", disable=None) as bar:
        for frame in frames:
            yield frame
            bar.update((frame["rank"] == 1).sum())


class _Tally:
    """Counts users and recommendations that pass."""

    def __init__(self):
        self.users = self.from_prior = self.rows = 0

    def of(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            first = frame["rank"].to_numpy() == 1
            self.users += int(first.sum())
            self.from_prior += int((first & frame["from_prior"].to_numpy()).sum())
            self.rows += len(frame)
            yield frame


def _report(output: str, users: UserHistories, tally: _Tally, seconds: float) -> None:
    speed = f" ({len(users) / seconds:,.0f} a second)" if len(users) >= MANY_USERS else ""
    print(f"{output}: {counted(tally.rows, 'item')} for {counted(tally.users, 'user')}{speed}")
    for remark in users.remarks:
        _say(f"{remark}.")
    if tally.from_prior == tally.users:
        _say(
            "no history has an item that the model knows, so that all users get its prior "
            "recommendation: are these the item tokens of its data set?"
        )
    elif tally.from_prior:
        _say(
            f"the model's prior recommendation went to {counted(tally.from_prior, 'user')} with no "
            "known item: from_prior marks them."
        )
    if tally.users < len(users):
        _say(f"{counted(len(users) - tally.users, 'user')} had no item left to recommend.")


def _say(sentence: str) -> None:
    print(f"recbole-evcf: {printable(sentence)}", file=sys.stderr)
