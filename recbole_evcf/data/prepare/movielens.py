"""MovieLens-20M: `ratings.csv` and `movies.csv`, as they come in the official archive."""

from __future__ import annotations

import csv

import pandas as pd

from recbole_evcf.data.prepare.output import write_items, write_ratings
from recbole_evcf.data.prepare.raw import RawPath, find_files, read_table

__all__ = ["prepare_ml_20m"]

PUBLISHED = (9_990_682, 136_677, 20_720)
ITEM_HEADER = ["item_id:token", "movie_title:token_seq", "genre:token_seq"]


def prepare_ml_20m(raw: RawPath, path: str) -> list[str]:
    """Write all ratings to `PATH.inter` and, if there are any, titles and genres to `PATH.item`."""
    (ratings,) = find_files(raw, "ratings.csv", "ml-20m")
    for file in find_files(raw, "movies.csv", "ml-20m", needed=False):
        columns = ("movieId", "title", "genres")
        movies = pd.concat(read_table(file, columns, quoting=csv.QUOTE_MINIMAL))
        movies["genres"] = movies["genres"].replace("(no genres listed)", "").str.replace("|", " ")
        write_items(f"{path}.item", ITEM_HEADER, file, movies)
    tables = read_table(ratings, ("userId", "movieId", "rating", "timestamp"))
    return write_ratings(f"{path}.inter", ((ratings, table) for table in tables), PUBLISHED)
