"""Netflix Prize: `combined_data_*.txt`, in which a movie's id is above its ratings."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from tqdm import tqdm

from recbole_evcf.data.prepare.output import write_items, write_ratings
from recbole_evcf.data.prepare.raw import (
    RawPath,
    distinct_values,
    find_files,
    read_table,
    refuse,
    whole_numbers,
)

__all__ = ["prepare_netflix"]

PUBLISHED = (56_880_037, 463_435, 17_769)
ITEM_HEADER = ["item_id:token", "release_year:token", "movie_title:token_seq"]
FOLDER = "netflix-prize-data"


def prepare_netflix(raw: RawPath, path: str, bar: tqdm) -> list[str]:
    """Write all ratings to `PATH.inter` and, if there are any, years and titles to `PATH.item`."""
    ratings = find_files(raw, "combined_data_*.txt", FOLDER)
    for file in find_files(raw, "movie_titles.csv", FOLDER, required=False):
        # A title may hold commas: a line is read as one field, and split at the first two.
        lines = pd.concat(read_table(file, ["line"], bar, False, sep="\x01", encoding="latin-1"))
        movies = lines["line"].str.extract("([^,]*),([^,]*),(.*)")
        refuse(file, lines["line"], movies[0].isna().to_numpy(), "id,year,title")
        movies[1] = movies[1].where(movies[1] != "NULL", "")
        write_items(f"{path}.item", ITEM_HEADER, file, movies)
    tables = (table for file in ratings for table in read_ratings(file, bar))
    return write_ratings(f"{path}.inter", tables, PUBLISHED)


def read_ratings(file: RawPath, bar: tqdm) -> Iterator[tuple[RawPath, pd.DataFrame]]:
    """Read a file in chunks, as `write_ratings` wants them; the dates become seconds since 1970."""
    movie = None
    for table in read_table(file, ("customer", "rating", "date"), bar, header=False):
        customer, date = table["customer"], table["date"]
        is_movie = customer.str.endswith(":") & (table["rating"] == "") & (date == "")
        movies = customer.str.removesuffix(":").rename("movie")
        whole_numbers(file, movies[is_movie])
        movies = movies.where(is_movie)
        if not is_movie.iloc[0]:
            if movie is None:
                raise ValueError(f"{file}, line 1: a rating before any movie's id, such as 1:")
            # Its ratings run on from the chunk before.
            movies.iloc[0] = movie
        table["movie"] = movies.ffill()
        movie = table["movie"].iloc[-1]
        table = table[~is_movie]
        codes, days = distinct_values(file, table["date"], r"\d{4}-\d\d-\d\d", "a date YYYY-MM-DD")
        moments = pd.to_datetime(days, format="%Y-%m-%d", errors="coerce")
        refuse(file, table["date"], moments.isna()[codes], "a date YYYY-MM-DD")
        seconds = pd.Index(moments.to_numpy("datetime64[s]").astype("int64")).astype(str)
        yield file, table[["customer", "movie", "rating"]].assign(timestamp=seconds[codes])
