"""A split made elsewhere, in the "pro_sg" layout, as five files that RecBole reads as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from recbole_evcf.data.prepare.counting import Counts
from recbole_evcf.data.prepare.fields import whole_numbers
from recbole_evcf.data.prepare.lines import read_blocks
from recbole_evcf.data.prepare.output import durable_file, new_dataset
from recbole_evcf.data.prepare.progress import byte_progress
from recbole_evcf.data.prepare.report import Report
from recbole_evcf.data.prepare.rows import join_columns, number_column
from recbole_evcf.data.prepare.source import RawFile, find_raw_files
from recbole_evcf.data.prepare.tables import read_table

__all__ = ["PARTS", "prepare_pro_sg"]

# The raw files, and what RecBole's `benchmark_filename` calls them.
PARTS = {
    "train.csv": "train",
    "validation_tr.csv": "valid_fold_in",
    "validation_te.csv": "valid_target",
    "test_tr.csv": "test_fold_in",
    "test_te.csv": "test_target",
}
COLUMNS = ("uid", "sid")
HEADER = b"user_id:token\titem_id:token\n"
ITEM_LIST = "unique_sid.txt"
# A file's first row is in its second line, below the header.
FIRST_LINE = 2

YAML_COMMENT = """\
# The split "{name}", made elsewhere and taken over as it is: the users to train on, and of the
# users held out for validation and for the test what the model is shown (fold-in) and what it is
# scored on (target). Name this file among the config files of a run:
#     --dataset={name} --config_files=FOLDER/{name}.yaml
"""


@dataclass(frozen=True)
class Pairs:
    """All interactions of one raw file, in its order."""

    file: RawFile
    users: np.ndarray
    items: np.ndarray

    def refuse(self, bad: np.ndarray, problem: str) -> None:
        """Raise an error for the first row that `bad` marks; `problem` may name user and item."""
        if bad.any():
            row = int(np.argmax(bad))
            sentence = problem.format(user=self.users[row], item=self.items[row])
            raise ValueError(f"{self.file}, line {row + FIRST_LINE}: {sentence}")


@dataclass(frozen=True)
class Training:
    """The distinct users and items of the training file, and its number of rows."""

    users: np.ndarray
    items: np.ndarray
    rows: int


def prepare_pro_sg(
    raw: str | Path,
    name: str,
    output: str | Path = "dataset",
    overwrite: bool = False,
    show_progress: bool = True,
) -> Report:
    """Turn a split in the "pro_sg" layout into RecBole atomic files, row for row.

    Writes `OUTPUT/NAME/NAME.train.inter`, `.valid_fold_in.inter`, `.valid_target.inter`,
    `.test_fold_in.inter` and `.test_target.inter`, and `NAME.yaml`, a RecBole config file that
    names them.

    Args:
        raw: The folder with train.csv, validation_tr.csv, validation_te.csv, test_tr.csv and
            test_te.csv (columns `uid` and `sid`, whole numbers; others are passed over).
        name: What to call the data set.
        output: The folder of data sets to write into; made if need be.
        overwrite: Whether to replace a data set of that name.
        show_progress: Whether to show a progress bar.

    Returns:
        What was done. Repeated rows, and an `unique_sid.txt` that lists another number of items
        than the training file has, are warnings in it.

    Raises:
        ValueError: A file is missing or broken, or the files do not make a split of users: an
            item that training never saw, a user in two parts, a target without fold-in, a pair
            in both (names file and line); or the data set exists already. Nothing is left behind
            then.
    """
    sources = find_parts(raw)
    item_lists = find_raw_files(raw, ITEM_LIST)
    with (
        new_dataset(raw, output, name, overwrite) as folder,
        byte_progress([*sources.values(), *item_lists], "pro_sg", show_progress) as progress,
    ):

        def copy(part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return copy_rows(sources[part], folder / inter_name(name, part), progress)

        training = gather_training(copy("train.csv"))
        held_out = {
            part: gather_pairs(sources[part], copy(part)) for part in PARTS if part != "train.csv"
        }
        warnings = check_split(training, held_out) + check_item_list(item_lists, training, progress)
        with durable_file(folder / f"{name}.yaml") as stream:
            stream.write(config_text(name, output).encode())
    rows = {"train.csv": training.rows, **{part: len(p.users) for part, p in held_out.items()}}
    users = [training.users, *(pairs.users for pairs in held_out.values())]
    return Report(
        kind="pro_sg",
        folder=Path(output) / name,
        rows={inter_name(name, part): count for part, count in rows.items()},
        counts=Counts(
            sum(rows.values()), len(pd.unique(np.concatenate(users))), len(training.items)
        ),
        warnings=tuple(warnings),
    )


def inter_name(name: str, part: str) -> str:
    """The atomic file that a raw file becomes."""
    return f"{name}.{PARTS[part]}.inter"


def find_parts(raw: str | Path) -> dict[str, RawFile]:
    """The five files, all of which must be there."""
    found = {part: find_raw_files(raw, part) for part in PARTS}
    missing = [part for part, files in found.items() if not files]
    if missing:
        raise ValueError(f"{raw}: holds no {', '.join(missing)}")
    return {part: files[0] for part, files in found.items()}


def copy_rows(
    file: RawFile, target: Path, progress: tqdm
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Write a raw file's rows to an atomic file; give users and items of each block on the way."""
    with durable_file(target) as stream:
        stream.write(HEADER)
        for user, item in read_table(file, COLUMNS, progress):
            users, items = whole_numbers(user), whole_numbers(item)
            stream.write(join_columns([number_column(users), number_column(items)]))
            yield users, items


def gather_training(blocks: Iterator[tuple[np.ndarray, np.ndarray]]) -> Training:
    """Keep the distinct users and items only, as the training file may be large."""
    users, items, rows = np.empty(0, np.int64), np.empty(0, np.int64), 0
    for block_users, block_items in blocks:
        users = np.union1d(users, pd.unique(block_users))
        items = np.union1d(items, pd.unique(block_items))
        rows += len(block_users)
    return Training(users, items, rows)


def gather_pairs(file: RawFile, blocks: Iterator[tuple[np.ndarray, np.ndarray]]) -> Pairs:
    """Keep all rows of a file of held-out users."""
    users, items = (np.concatenate(parts) for parts in zip(*blocks))
    return Pairs(file, users, items)


def check_split(training: Training, held_out: dict[str, Pairs]) -> list[str]:
    """Refuse what is no split of users; give sentences on what is odd but possible."""
    for pairs in held_out.values():
        pairs.refuse(
            ~np.isin(pairs.items, training.items), "training never saw item {item} of user {user}"
        )
        pairs.refuse(np.isin(pairs.users, training.users), "user {user} is in train.csv as well")
    validation = np.concatenate([held_out[f"validation_{part}.csv"].users for part in ("tr", "te")])
    for part in ("test_tr.csv", "test_te.csv"):
        held_out[part].refuse(
            np.isin(held_out[part].users, validation),
            "user {user} is among the validation users as well",
        )
    warnings = []
    for group in ("validation", "test"):
        fold_in, target = held_out[f"{group}_tr.csv"], held_out[f"{group}_te.csv"]
        warnings += check_fold_in(fold_in, target, training.items)
    return warnings


def check_fold_in(fold_in: Pairs, target: Pairs, items: np.ndarray) -> list[str]:
    """Refuse a target without fold-in or shown in it; give sentences on repeated rows."""
    users = np.unique(fold_in.users)
    target.refuse(
        ~np.isin(target.users, users), f"user {{user}} has no rows in {fold_in.file.name}"
    )
    # One number for each pair: the user's place among the users, and the item's among the items.
    shown, hidden = (
        np.searchsorted(users, pairs.users) * len(items) + np.searchsorted(items, pairs.items)
        for pairs in (fold_in, target)
    )
    target.refuse(
        np.isin(hidden, shown), f"item {{item}} of user {{user}} is in {fold_in.file.name} as well"
    )
    repeats = [
        (pairs.file, len(keys) - len(pd.unique(keys)))
        for pairs, keys in ((fold_in, shown), (target, hidden))
    ]
    return [f"{file}: {count:,} rows repeat an earlier one" for file, count in repeats if count]


def check_item_list(files: list[RawFile], training: Training, progress: tqdm) -> list[str]:
    """Say so if the list of items, where there is one, has another length than it should."""
    listed = [
        (file, sum(len(lines) for lines in read_blocks(file, progress)) if file.size else 0)
        for file in files
    ]
    return [
        f"{file}: lists {count:,} items, but training has {len(training.items):,}"
        for file, count in listed
        if count != len(training.items)
    ]


def config_text(name: str, output: str | Path) -> str:
    """The RecBole config file that makes RecBole read the five files."""
    config = {
        "data_path": str(output),
        "benchmark_filename": list(PARTS.values()),
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    return YAML_COMMENT.format(name=name) + yaml.safe_dump(
        config, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=None
    )
