"""MovieLens-20M: `ratings.csv` and `movies.csv`, as they come in the official archive."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from recbole_evcf.data.prepare.counting import Counts
from recbole_evcf.data.prepare.fields import whole_numbers
from recbole_evcf.data.prepare.items import clean_title, decode_lines
from recbole_evcf.data.prepare.lines import Lines, read_blocks
from recbole_evcf.data.prepare.ratings import (
    RatingBlock,
    RawRatings,
    prepare_ratings,
    read_ratings,
)
from recbole_evcf.data.prepare.report import Report
from recbole_evcf.data.prepare.rows import number_column
from recbole_evcf.data.prepare.source import RawFile
from recbole_evcf.data.prepare.tables import read_table

__all__ = ["prepare_ml_20m"]

RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
MOVIE_COLUMNS = ["movieId", "title", "genres"]
NO_GENRES = "(no genres listed)"


def prepare_ml_20m(
    raw: str | Path,
    name: str = "ml-20m",
    output: str | Path = "dataset",
    overwrite: bool = False,
    show_progress: bool = True,
) -> Report:
    """Turn the raw MovieLens-20M data into RecBole atomic files.

    Writes all ratings to `OUTPUT/NAME/NAME.inter` (user, item, rating in stars, timestamp in
    seconds since 1970) and, if there is a `movies.csv`, titles and genres to `NAME.item`. The
    filter of the literature is left to RecBole's config; what it will leave is counted.

    Args:
        raw: `ml-20m.zip`, or a folder with `ratings.csv` in it or in its folder `ml-20m`.
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
    return prepare_ratings(ML_20M, raw, name, output, overwrite, show_progress)


def read_rating_blocks(file: RawFile, progress: tqdm) -> Iterator[RatingBlock]:
    """Read `ratings.csv` in blocks."""
    for user, item, rating, timestamp in read_table(file, RATING_COLUMNS, progress):
        stars, star_column = read_ratings(rating)
        timestamp_column = number_column(whole_numbers(timestamp))
        yield RatingBlock(
            whole_numbers(user), whole_numbers(item), stars, star_column, timestamp_column
        )


def read_movies(file: RawFile, progress: tqdm) -> Iterator[tuple[Lines, int, tuple[str, ...]]]:
    """Read `movies.csv`, whose titles may be quoted, to id, title and genres."""
    header = []
    for lines, row, text in decode_lines(read_blocks(file, progress), "utf-8"):
        try:
            fields = next(csv.reader([text], strict=True))
        except csv.Error as error:
            raise lines.error(row, f"is not a row of a CSV file ({error})") from error
        if not header:
            header = fields
            if header != MOVIE_COLUMNS:
                raise lines.error(row, f"the header is not {','.join(MOVIE_COLUMNS)}")
            continue
        if len(fields) != len(MOVIE_COLUMNS):
            raise lines.error(row, f"expected {len(MOVIE_COLUMNS)} fields, found {len(fields)}")
        item, title, genres = fields
        genres = "" if genres == NO_GENRES else clean_title(genres.replace("|", " "))
        yield lines, row, (item, clean_title(title), genres)


ML_20M = RawRatings(
    kind="ml-20m",
    folders=("", "ml-20m"),
    ratings_files="ratings.csv",
    items_file="movies.csv",
    published=Counts(interactions=9_990_682, users=136_677, items=20_720),
    item_header=("item_id:token", "movie_title:token_seq", "genre:token_seq"),
    read_ratings=read_rating_blocks,
    read_items=read_movies,
)
