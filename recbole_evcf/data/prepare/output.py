"""Write a data set all or nothing, with ratings and items in RecBole's atomic files."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

from recbole_evcf.data.prepare.raw import RawPath, distinct_values, refuse, whole_numbers

__all__ = ["new_dataset", "write_items", "write_ratings"]

RATINGS_HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
# From 0.5 to 5, in at most 8 characters.
RATING = r"0\.[5-9][0-9]{0,5}|[1-4](?:\.[0-9]{1,6})?|5(?:\.0{1,6})?"
# The published filter: ratings from 4 up are kept, then users with at least 5 of them.
MIN_RATING, MIN_INTERACTIONS = 4, 5


@contextmanager
def new_dataset(raw: str | Path, output: str | Path, name: str, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to fill, which becomes `OUTPUT/NAME` when the `with` statement ends.

    If anything is raised, even KeyboardInterrupt, whatever was written is removed, and an older
    data set of that name stays as it was.
    """
    if not re.fullmatch(r"[^\W_][\w.+-]*", name):
        raise ValueError(f"the name {name!r} is not fit for a folder (a letter, then also . _ + -)")
    # Where the target is a link, what it points to is replaced, not the link.
    target = (Path(output) / name).resolve()
    check_target(target, name, Path(raw).resolve(), overwrite)
    made = [folder for folder in target.parents if not folder.exists()]
    hidden = target.with_name(f".{name}.{uuid.uuid4().hex}.new")
    aside = hidden.with_suffix(".old")
    try:
        hidden.mkdir(parents=True)
        yield hidden
        if target.exists():
            target.rename(aside)
        hidden.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        shutil.rmtree(hidden, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def check_target(target: Path, name: str, raw: Path, overwrite: bool) -> None:
    """Refuse a target that holds anything but a data set to replace."""
    found = sorted(target.iterdir()) if target.is_dir() else []
    if target.is_file() or (found and not overwrite):
        raise ValueError(f"{target}: exists already; pass overwrite to replace it, or another name")
    if target in (raw, *raw.parents):
        raise ValueError(f"{target}: holds the raw data; choose another name or output")
    for path in found:
        if not (path.name.startswith(f"{name}.") and path.is_file()):
            other = f"{path.name!r}, which is not of the data set {name} and would be removed"
            raise ValueError(f"{target}: holds {other}; move it, or choose another name or output")


def write_ratings(
    path: str, tables: Iterable[tuple[RawPath, pd.DataFrame]], published: tuple[int, int, int]
) -> list[str]:
    """Write an atomic file of ratings; return lines for the report.

    Each table, given with its file, has user, item, rating and timestamp as strings.
    `published` is how many interactions, users and items the filter leaves.
    """
    rows, liked = 0, []
    pd.DataFrame(columns=RATINGS_HEADER).to_csv(path, sep="\t", index=False)
    for file, table in tables:
        users, items = (whole_numbers(file, table.iloc[:, column]) for column in (0, 1))
        codes, stars = distinct_values(file, table["rating"], RATING, "a rating from 0.5 to 5")
        distinct_values(file, table["timestamp"], "-?(?:0|[1-9][0-9]{0,17})", "whole seconds")
        kept = (stars.astype(float) >= MIN_RATING)[codes]
        pairs = pd.DataFrame({"user": users[kept], "item": items[kept]})
        liked.append(pairs.apply(pd.to_numeric, downcast="unsigned"))
        table.to_csv(path, mode="a", sep="\t", header=False, index=False)
        rows += len(table)
    if not rows:
        raise ValueError(f"{file}: holds no ratings")
    pairs = pd.concat(liked)
    pairs = pairs[pairs.groupby("user")["item"].transform("size") >= MIN_INTERACTIONS]
    rule = f"rating >= {MIN_RATING}, users with >= {MIN_INTERACTIONS} such ratings"
    lines = [f"  {Path(path).name}: {rows:,} interactions", f"after the published filter ({rule}):"]
    counts = (len(pairs), pairs["user"].nunique(), pairs["item"].nunique())
    for what, count, wanted in zip(("interactions", "users", "items"), counts, published):
        verdict = "equal" if count == wanted else f"differs by {count - wanted:+,}"
        lines.append(f"  {what} {count:,} (published {wanted:,}: {verdict})")
    return lines


def write_items(path: str, header: list[str], file: RawPath, table: pd.DataFrame) -> None:
    """Write an atomic file of items, ids first; white space, where RecBole splits, is cleaned."""
    ids = table.iloc[:, 0]
    whole_numbers(file, ids)
    refuse(file, ids, ids.duplicated(), "new, as an id must be")
    for column, texts in table.iloc[:, 1:].items():
        refuse(file, texts, texts.str.contains("\ufffd"), "UTF-8")
        table[column] = texts.str.replace(r"[\s\x00-\x1f\x7f-\x9f]+", " ", regex=True).str.strip()
    table.to_csv(path, sep="\t", index=False, header=header)
