"""MovieLens-20M and Netflix Prize: ratings, and items with their titles, as atomic files."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from recbole_evcf.data.prepare import raw as files

RATINGS_HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
# From 0.5 to 5, in at most 8 characters.
RATING = r"0\.[5-9][0-9]{0,5}|[1-4](?:\.[0-9]{1,6})?|5(?:\.0{1,6})?"
SECONDS = "-?(?:0|[1-9][0-9]{0,17})"
DATE = r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"  # There is no year 0.
# The published filter: ratings from 4 up are kept, then users with at least 5 of them.
MIN_RATING, MIN_INTERACTIONS = 4, 5
# How many interactions, users and items it leaves.
ML_20M, NETFLIX = (9_990_682, 136_677, 20_720), (56_880_037, 463_435, 17_769)


def prepare_ml_20m(raw: files.RawPath, path: str) -> list[str]:
    """Write all ratings to `PATH.inter` and, if there are any, titles and genres to `PATH.item`."""
    (ratings,) = files.find_files(raw, "ratings.csv", "ml-20m")
    for file in files.find_files(raw, "movies.csv", "ml-20m", needed=False):
        columns = ("movieId", "title", "genres")
        movies = pd.concat(files.read_table(file, columns, quoting=csv.QUOTE_MINIMAL))
        movies["genres"] = movies["genres"].replace("(no genres listed)", "").str.replace("|", " ")
        header = ["item_id:token", "movie_title:token_seq", "genre:token_seq"]
        write_items(f"{path}.item", header, file, movies)
    tables = files.read_table(ratings, ("userId", "movieId", "rating", "timestamp"))
    return write_ratings(f"{path}.inter", ((ratings, table) for table in tables), ML_20M)


def prepare_netflix(raw: files.RawPath, path: str) -> list[str]:
    """Write all ratings to `PATH.inter` and, if there are any, years and titles to `PATH.item`."""
    folder = "netflix-prize-data"
    ratings = files.find_files(raw, "combined_data_*.txt", folder)
    for file in files.find_files(raw, "movie_titles.csv", folder, needed=False):
        # A title may hold commas: a line is read as one field, and split at the first two.
        lines = files.read_table(file, ["line"], header=False, sep="\x01", encoding="latin-1")
        line = pd.concat(lines)["line"]
        movies = line.str.extract("([^,]*),([^,]*),(.*)").replace({1: {"NULL": ""}})
        files.refuse(file, line, movies[0].isna(), "id,year,title")
        header = ["item_id:token", "release_year:token", "movie_title:token_seq"]
        write_items(f"{path}.item", header, file, movies)
    tables = (table for file in ratings for table in read_netflix(file))
    return write_ratings(f"{path}.inter", tables, NETFLIX)


def read_netflix(file: files.RawPath) -> Iterator[tuple[files.RawPath, pd.DataFrame]]:
    """Read chunks of a file with each movie's id above its ratings; dates become seconds."""
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


def write_ratings(
    path: str, tables: Iterable[tuple[files.RawPath, pd.DataFrame]], published: tuple[int, ...]
) -> list[str]:
    """Write an atomic file of ratings; return lines for the report.

    Each table, given with its file, has user, item, rating and timestamp as strings.
    """
    rows, liked = 0, []
    pd.DataFrame(columns=RATINGS_HEADER).to_csv(path, sep="\t", index=False)
    for file, table in tables:
        users, items = (files.whole_numbers(file, table.iloc[:, column]) for column in (0, 1))
        codes, stars = files.distinct_values(
            file, table["rating"], RATING, "a rating from 0.5 to 5"
        )
        files.distinct_values(file, table["timestamp"], SECONDS, "whole seconds")
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


def write_items(path: str, header: list[str], file: files.RawPath, table: pd.DataFrame) -> None:
    """Write an atomic file of items, ids first; white space, where RecBole splits, is cleaned."""
    ids = table.iloc[:, 0]
    files.whole_numbers(file, ids)
    files.refuse(file, ids, ids.duplicated(), "new, as an id must be")
    for column, texts in table.iloc[:, 1:].items():
        files.refuse(file, texts, texts.str.contains("\ufffd"), "UTF-8")
        table[column] = texts.str.replace(r"[\s\x00-\x1f\x7f-\x9f]+", " ", regex=True).str.strip()
    table.to_csv(path, sep="\t", index=False, header=header)
