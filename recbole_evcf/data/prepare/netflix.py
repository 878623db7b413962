"""Netflix Prize: `combined_data_*.txt`, in which a movie's id stands above its ratings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from tqdm import tqdm

from recbole_evcf.data.prepare.counting import Counts
from recbole_evcf.data.prepare.fields import Field, distinct_values, split_fields, whole_numbers
from recbole_evcf.data.prepare.items import clean_title, decode_lines
from recbole_evcf.data.prepare.lines import Lines, read_blocks
from recbole_evcf.data.prepare.ratings import (
    RatingBlock,
    RawRatings,
    prepare_ratings,
    read_ratings,
)
from recbole_evcf.data.prepare.report import Report
from recbole_evcf.data.prepare.rows import text_column
from recbole_evcf.data.prepare.source import RawFile

__all__ = ["prepare_netflix"]

RATING_COLUMNS = ("customer", "rating", "date")
COLON = ord(":")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DATE_BYTES = len("YYYY-MM-DD")
NO_YEAR = "NULL"


def prepare_netflix(
    raw: str | Path,
    name: str = "netflix",
    output: str | Path = "dataset",
    overwrite: bool = False,
    show_progress: bool = True,
) -> Report:
    """Turn the raw Netflix Prize data into RecBole atomic files.

    Writes all ratings to `OUTPUT/NAME/NAME.inter` (user, item, rating in stars, timestamp in
    seconds from 1970 to the start of the day, UTC) and, if there is a `movie_titles.csv`, years
    and titles to `NAME.item`. The filter of the literature is left to RecBole's config; what it
    will leave is counted.

    Args:
        raw: A folder or zip archive with `combined_data_1.txt` and so on (those that are there
            are used) in it or in its folder `netflix-prize-data`.
        name: What to call the data set.
        output: The folder of data sets to write into; made if need be.
        overwrite: Whether to replace a data set of that name.
        show_progress: Whether to show a progress bar.

    Returns:
        What was done, with the counts after the published filter.

    Raises:
        ValueError: The raw data are missing or broken (names file and line), or the data set
            exists already. Nothing is left behind then.
    """
    return prepare_ratings(NETFLIX, raw, name, output, overwrite, show_progress)


def read_rating_blocks(file: RawFile, progress: tqdm) -> Iterator[RatingBlock]:
    """Read a file of ratings in blocks; a movie's ratings may run on into the next block."""
    movie = None
    rows = 0
    for lines in read_blocks(file, progress):
        last_byte = np.maximum(lines.ends - 1, lines.starts)
        is_movie = lines.data[last_byte] == COLON
        if movie is None and not is_movie[0]:
            raise lines.error(0, "a rating before any line with a movie's id, such as 1:")
        movies = read_movie_ids(lines.take(is_movie))
        # Ratings above the first movie of this block belong to the last movie of the one before.
        # In a file's first block there are none, so its place 0 is never used.
        known = np.concatenate(([-1 if movie is None else movie], movies))
        movie = known[-1]
        ratings = lines.take(~is_movie)
        if len(ratings):
            rows += len(ratings)
            yield read_block(ratings, known[np.cumsum(is_movie)[~is_movie]])
    if not rows:
        raise ValueError(f"{file}: holds no ratings")


def read_movie_ids(lines: Lines) -> np.ndarray:
    """Read lines that end in a colon."""
    return whole_numbers(Field("movie", lines, lines.starts, lines.ends - 1))


def read_block(lines: Lines, items: np.ndarray) -> RatingBlock:
    """Read the lines of ratings of known movies."""
    customer, rating, date = split_fields(lines, RATING_COLUMNS)
    stars, star_column = read_ratings(rating)
    codes, _, seconds = distinct_values(date, parse_date, DATE_BYTES, "a date YYYY-MM-DD")
    timestamp_column = text_column(codes, [str(second) for second in seconds])
    return RatingBlock(whole_numbers(customer), items, stars, star_column, timestamp_column)


def parse_date(text: str) -> int | None:
    """The seconds from 1970 to the start of a day (UTC), if the text stands for a day."""
    if not DATE.fullmatch(text):
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int(day.timestamp())


def read_titles(file: RawFile, progress: tqdm) -> Iterator[tuple[Lines, int, tuple[str, ...]]]:
    """Read `movie_titles.csv`, whose titles may hold commas, to id, year and title."""
    for lines, row, text in decode_lines(read_blocks(file, progress), "latin-1"):
        fields = text.split(",", 2)
        if len(fields) != 3:
            raise lines.error(row, f"expected 3 fields (id,year,title), found {len(fields)}")
        item, year, title = fields
        yield lines, row, (item, "" if year == NO_YEAR else clean_title(year), clean_title(title))


NETFLIX = RawRatings(
    kind="netflix",
    folders=("", "netflix-prize-data"),
    ratings_files="combined_data_*.txt",
    items_file="movie_titles.csv",
    published=Counts(interactions=56_880_037, users=463_435, items=17_769),
    item_header=("item_id:token", "release_year:token", "movie_title:token_seq"),
    read_ratings=read_rating_blocks,
    read_items=read_titles,
)
