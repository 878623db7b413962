"""From raw ratings to a RecBole data set: what MovieLens and Netflix have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recbole_evcf.data.prepare.counting import Counts, FilterCount
from recbole_evcf.data.prepare.fields import Field, distinct_values
from recbole_evcf.data.prepare.items import write_items
from recbole_evcf.data.prepare.lines import Lines
from recbole_evcf.data.prepare.output import durable_file, new_dataset
from recbole_evcf.data.prepare.progress import byte_progress
from recbole_evcf.data.prepare.report import Report
from recbole_evcf.data.prepare.rows import join_columns, number_column, text_column
from recbole_evcf.data.prepare.source import RawFile, find_raw_files

__all__ = ["RatingBlock", "RawRatings", "prepare_ratings", "read_ratings"]

RATINGS_HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"

RATING = re.compile(r"[0-9](\.[0-9]+)?")
RATING_BYTES = 8
MIN_STARS = 0.5
MAX_STARS = 5.0


@dataclass(frozen=True)
class RatingBlock:
    """Some ratings.

    Attributes:
        users: Who rated (int64).
        items: What was rated (int64).
        stars: From 0.5 to 5.
        star_column: The same as bytes, as they stood in the file.
        timestamp_column: When, in seconds since 1970 (UTC), as bytes.
    """

    users: np.ndarray
    items: np.ndarray
    stars: np.ndarray
    star_column: np.ndarray
    timestamp_column: np.ndarray

    def text(self) -> bytes:
        """The rows of the atomic file."""
        ids = [number_column(self.users), number_column(self.items)]
        return join_columns([*ids, self.star_column, self.timestamp_column])


@dataclass(frozen=True)
class RawRatings:
    """How one raw data set is laid out.

    Attributes:
        kind: What the data set is called.
        folders: Where its files may lie within what the user names.
        ratings_files: A pattern for the names of the files of ratings.
        items_file: The name of the file of titles, which may be missing.
        published: What the literature says the published filter leaves.
        item_header: The columns of the atomic file of items.
        read_ratings: Reads a file of ratings in blocks.
        read_items: Reads the file of titles, as `write_items` wants it.
    """

    kind: str
    folders: tuple[str, ...]
    ratings_files: str
    items_file: str
    published: Counts
    item_header: tuple[str, ...]
    read_ratings: Callable[[RawFile, tqdm], Iterator[RatingBlock]]
    read_items: Callable[[RawFile, tqdm], Iterator[tuple[Lines, int, tuple[str, ...]]]]


def prepare_ratings(
    layout: RawRatings,
    raw: str | Path,
    name: str,
    output: str | Path,
    overwrite: bool,
    show_progress: bool,
) -> Report:
    """Turn raw ratings into atomic files, all or nothing, in memory that does not grow with them.

    Args:
        layout: How the raw data set is laid out.
        raw: The folder or zip archive that holds it.
        name: What to call the data set.
        output: The folder of data sets to write `name` into.
        overwrite: Whether to replace a data set of that name.
        show_progress: Whether to show a progress bar.

    Returns:
        What was done, with the counts after the published filter.

    Raises:
        ValueError: The raw data are missing or broken, or the data set exists already.
    """
    sources = find_raw_files(raw, layout.ratings_files, layout.folders)
    if not sources:
        raise ValueError(f"{raw}: holds no {layout.ratings_files}")
    titles = find_raw_files(raw, layout.items_file, layout.folders)
    inter = f"{name}.inter"
    with (
        new_dataset(raw, output, name, overwrite) as folder,
        byte_progress([*sources, *titles], layout.kind, show_progress) as progress,
    ):
        # Titles first: they are small, and an error in them then shows within a second.
        for source in titles:
            items = layout.read_items(source, progress)
            write_items(folder / f"{name}.item", layout.item_header, items)
        blocks = (block for file in sources for block in layout.read_ratings(file, progress))
        rows, counts = write_ratings(folder / inter, blocks)
    return Report(layout.kind, Path(output) / name, {inter: rows}, counts, layout.published)


def write_ratings(path: Path, blocks: Iterator[RatingBlock]) -> tuple[int, Counts]:
    """Write the atomic file of ratings; give their number and what the filter leaves of them."""
    rows = 0
    count = FilterCount()
    with durable_file(path) as stream:
        stream.write(RATINGS_HEADER)
        for block in blocks:
            stream.write(block.text())
            count.add(block.users, block.items, block.stars)
            rows += len(block.users)
    return rows, count.result()


def read_ratings(field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Read a field of ratings.

    Args:
        field: What to read.

    Returns:
        The ratings in stars, and the same as a column of bytes, spelled as in the file.

    Raises:
        ValueError: Something else stands there; names file and line.
    """
    wanted = f"a rating from {MIN_STARS} to {MAX_STARS:g}"
    codes, texts, values = distinct_values(field, parse_rating, RATING_BYTES, wanted)
    return values[codes], text_column(codes, texts)


def parse_rating(text: str) -> float | None:
    """The rating that a text stands for, if any."""
    stars = float(text) if RATING.fullmatch(text) else 0.0
    return stars if MIN_STARS <= stars <= MAX_STARS else None
