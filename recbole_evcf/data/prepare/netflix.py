"""Netflix Prize: `combined_data_*.txt`, in which a movie's id is above its ratings."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from recbole_evcf.data.prepare import raw as files
from recbole_evcf.data.prepare.output import write_items, write_ratings

__all__ = ["prepare_netflix"]

PUBLISHED = (56_880_037, 463_435, 17_769)
ITEM_HEADER = ["item_id:token", "release_year:token", "movie_title:token_seq"]
DATE = r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"  # There is no year 0.
FOLDER = "netflix-prize-data"


def prepare_netflix(raw: files.RawPath, path: str) -> list[str]:
    """Write all ratings to `PATH.inter` and, if there are any, years and titles to `PATH.item`."""
    ratings = files.find_files(raw, "combined_data_*.txt", FOLDER)
    for file in files.find_files(raw, "movie_titles.csv", FOLDER, needed=False):
        # A title may hold commas: a line is read as one field, and split at the first two.
        lines = files.read_table(file, ["line"], header=False, sep="\x01", encoding="latin-1")
        line = pd.concat(lines)["line"]
        movies = line.str.extract("([^,]*),([^,]*),(.*)").replace({1: {"NULL": ""}})
        files.refuse(file, line, movies[0].isna(), "id,year,title")
        write_items(f"{path}.item", ITEM_HEADER, file, movies)
    tables = (table for file in ratings for table in read_ratings(file))
    return write_ratings(f"{path}.inter", tables, PUBLISHED)


def read_ratings(file: files.RawPath) -> Iterator[tuple[files.RawPath, pd.DataFrame]]:
    """Read a file in chunks, as `write_ratings` wants them; dates become seconds since 1970."""
    movie, wanted = None, "a date YYYY-MM-DD"
    for table in files.read_table(file, ("customer", "rating", "date"), header=False):
        customer = table["customer"]
        is_movie = customer.str.endswith(":") & (table["rating"] == "") & (table["date"] == "")
        files.whole_numbers(file, customer[is_movie].str.removesuffix(":").rename("movie"))
        movies = customer.str.removesuffix(":").where(is_movie)
        if table.empty or not is_movie.iloc[0]:
            if movie is None:
                raise ValueError(f"{file}, line 1: there is no movie's id, such as 1:")
            movies.iloc[0] = movie  # Its ratings run on from the chunk before.
        table["movie"] = movies.ffill()
        movie, table = table["movie"].iloc[-1], table[~is_movie]
        codes, days = files.distinct_values(file, table["date"], DATE, wanted)
        moments = pd.to_datetime(days, format="%Y-%m-%d", errors="coerce")
        files.refuse(file, table["date"], moments.isna()[codes], wanted)
        seconds = pd.Index(moments.to_numpy("datetime64[s]").astype("int64")).astype(str)
        yield file, table[["customer", "movie", "rating"]].assign(timestamp=seconds[codes])
