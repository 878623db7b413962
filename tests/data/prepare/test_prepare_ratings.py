"""Raw MovieLens and Netflix data become atomic files; broken ones become one sentence."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pandas as pd
import pytest

from prepare_raw_files import (
    MOVIES,
    NETFLIX,
    RATINGS,
    everything_under,
    read_atomic,
    read_ratings,
    write_files,
    write_zip,
)
from recbole_evcf.data.prepare import Counts, lines, prepare_ml_20m, prepare_netflix

INTER_HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]


def ml_20m(raw, output):
    return prepare_ml_20m(raw, output=output, show_progress=False)


def netflix(raw, output):
    return prepare_netflix(raw, output=output, show_progress=False)


def random_ratings(seed: int, rows: int) -> str:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "userId": rng.integers(0, 10 ** rng.integers(1, 7, rows)),
            "movieId": rng.integers(0, 10 ** rng.integers(1, 6, rows)),
            "rating": rng.integers(1, 11, rows) / 2,
            "timestamp": rng.integers(0, 10 ** rng.integers(1, 11, rows)),
        }
    )
    return table.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize("block", [64, 4 * 2**20])
def test_ml_20m_keeps_every_rating(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    text = random_ratings(1, 2000)
    report = ml_20m(write_files(tmp_path / "raw", {"ratings.csv": text}), tmp_path / "out")
    written = read_atomic(tmp_path / "out" / "ml-20m" / "ml-20m.inter")
    assert list(written.columns) == INTER_HEADER
    expected = read_ratings(text).astype({"timestamp": "float64"})
    for column, wanted in zip(written, expected):
        assert list(written[column]) == list(expected[wanted])
    assert report.rows == {"ml-20m.inter": 2000}
    assert everything_under(tmp_path / "out") == ["ml-20m", "ml-20m/ml-20m.inter"]


@pytest.mark.parametrize("text", [RATINGS, RATINGS.replace("\n", "\r\n"), RATINGS.rstrip()])
def test_ml_20m_spells_numbers_as_the_file_does(tmp_path, text):
    ml_20m(write_files(tmp_path / "raw", {"ratings.csv": text}), tmp_path / "out")
    rows = (tmp_path / "out" / "ml-20m" / "ml-20m.inter").read_text().splitlines()
    assert rows[1:] == [row.replace(",", "\t") for row in RATINGS.splitlines()[1:]]


def test_ml_20m_movies(tmp_path):
    files = {"ratings.csv": RATINGS, "movies.csv": MOVIES}
    ml_20m(write_files(tmp_path / "raw" / "ml-20m", files).parent, tmp_path / "out")
    items = read_atomic(tmp_path / "out" / "ml-20m" / "ml-20m.item").fillna("")
    assert list(items.columns) == ["item_id:token", "movie_title:token_seq", "genre:token_seq"]
    assert items.to_numpy().tolist() == [
        ["2", "Jumanji (1995)", "Adventure Children"],
        ["29", "City of Lost Children, The (Cit\u00e9 des enfants perdus, La) (1995)", "Sci-Fi"],
        ["131262", '"Great Performances" Cats (1998)', ""],
    ]


@pytest.mark.parametrize("folder", ["", "ml-20m/"])
def test_ml_20m_from_a_zip_archive(tmp_path, folder):
    files = {f"{folder}ratings.csv": RATINGS, f"{folder}movies.csv": MOVIES, "other/x": "y"}
    plain = write_files(tmp_path / "raw", {"ratings.csv": RATINGS, "movies.csv": MOVIES})
    ml_20m(plain, tmp_path / "a")
    ml_20m(write_zip(tmp_path / "ml-20m.zip", files), tmp_path / "b")
    for name in ("ml-20m.inter", "ml-20m.item"):
        a, b = ((tmp_path / side / "ml-20m" / name).read_bytes() for side in "ab")
        assert a == b


def expected_netflix(files: list[str]) -> list[list]:
    """A second reading of Netflix files, line by line."""
    rows, movie = [], None
    for text in files:
        for line in text.splitlines():
            if line.endswith(":"):
                movie = line[:-1]
                continue
            user, rating, date = line.split(",")
            day = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=timezone.utc)
            rows.append([user, movie, float(rating), day.timestamp()])
    return rows


def random_netflix(seed: int) -> str:
    rng = np.random.default_rng(seed)
    text = []
    for movie in rng.permutation(200):
        text.append(f"{movie}:")
        for user in rng.integers(0, 10 ** rng.integers(1, 8, rng.integers(0, 12))):
            day = np.datetime64("1960-01-01") + rng.integers(0, 20000)
            text.append(f"{user},{rng.integers(1, 6)},{day}")
    return "\n".join(text) + "\n"


@pytest.mark.parametrize("block", [32, 999, 4 * 2**20])
def test_netflix_keeps_every_rating(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    text = random_netflix(2)
    netflix(write_files(tmp_path / "raw", {"combined_data_1.txt": text}), tmp_path / "out")
    written = read_atomic(tmp_path / "out" / "netflix" / "netflix.inter")
    assert list(written.columns) == INTER_HEADER
    assert written.to_numpy().tolist() == expected_netflix([text])


@pytest.mark.parametrize("packed", [False, True])
def test_netflix_files_in_the_order_of_their_numbers(tmp_path, packed):
    files = {name: text.encode("latin-1") for name, text in NETFLIX.items()}
    if packed:
        raw = write_zip(tmp_path / "archive.zip", files)
    else:
        raw = write_files(tmp_path / "raw", files)
    netflix(raw, tmp_path / "out")
    written = read_atomic(tmp_path / "out" / "netflix" / "netflix.inter")
    order = [NETFLIX[f"combined_data_{number}.txt"] for number in (1, 2, 10)]
    assert written.to_numpy().tolist() == expected_netflix(order)
    items = read_atomic(tmp_path / "out" / "netflix" / "netflix.item").fillna("")
    assert items.to_numpy().tolist() == [
        ["1", "2003", "Dinosaur Planet"],
        ["2", "", "7 Seconds, or \u00e9t\u00e9"],
    ]


def test_counts_of_the_published_filter(tmp_path):
    liked = [(user, item, 4.0) for user in (1, 2) for item in range(5)]
    rows = [*liked, (3, 0, 5.0), (3, 77, 5.0), (1, 88, 3.5)]
    text = "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},{r},9\n" for u, i, r in rows)
    report = ml_20m(write_files(tmp_path / "raw", {"ratings.csv": text}), tmp_path / "out")
    assert report.counts == Counts(interactions=10, users=2, items=5)
    assert report.published == Counts(interactions=9_990_682, users=136_677, items=20_720)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "ratings.csv: the file is empty"),
        ("userId,movieId,rating,timestamp\n", "ratings.csv, line 2: there are no rows"),
        (RATINGS.replace("rating", "stars"), "line 1: the column rating is missing"),
        (RATINGS + "x,2,3.5,1\n", "line 6: 'x' is not a whole number .*column userId"),
        (RATINGS + "1,2,5.5,1\n", "line 6: '5.5' is not a rating from 0.5 to 5"),
        (RATINGS + "1,2,0.0,1\n", "line 6: '0.0' is not a rating"),
        (RATINGS + "1,2,nan,1\n", "line 6: 'nan' is not a rating"),
        (RATINGS + "1,2,4e0,1\n", "line 6: '4e0' is not a rating"),
        (RATINGS + "1,2,3.5\0,1\n", r"line 6: '3.5\\x00' is not a rating"),
        (RATINGS + "1,2,4.00000000,1\n", "line 6: '4.00000000' is not a rating"),
        (RATINGS + "1,2,,1\n", "line 6: an empty field is not a rating"),
        (RATINGS + "1,2,4,1.5\n", "line 6: '1.5' is not a whole number"),
        (RATINGS + "1,2,4\n", "line 6: expected 4 fields .* found 3"),
        (RATINGS + "1,2,4,5,6\n", "line 6: expected 4 fields .* found 5"),
        (RATINGS.encode() + b"\xff\xfe,2,4,5\n", r"line 6: '\\\\xff\\\\xfe' is not a whole"),
        ("\ud83d\ude00".encode("utf-16-le", "surrogatepass") * 9, "line 1: the column userId"),
    ],
)
def test_a_broken_ratings_file_is_refused(tmp_path, content, message):
    raw = write_files(tmp_path / "raw", {"ratings.csv": content})
    with pytest.raises(ValueError, match=message) as caught:
        ml_20m(raw, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,title\n", "movies.csv, line 1: the header is not movieId,title,genres"),
        (MOVIES + "3,x\n", "movies.csv, line 5: expected 3 fields, found 2"),
        (MOVIES + "\n", "movies.csv, line 5: expected 3 fields, found 0"),
        (MOVIES + '3,"x,y\n', "movies.csv, line 5: is not a row of a CSV file"),
        (MOVIES + "three,x,y\n", "movies.csv, line 5: 'three' is not an id"),
        (MOVIES + "2,x,y\n", "movies.csv, line 5: the id 2 occurs a second time"),
        (MOVIES.encode("latin-1"), "movies.csv, line 3: is not utf-8 text"),
    ],
)
def test_a_broken_file_of_movies_is_refused(tmp_path, content, message):
    raw = write_files(tmp_path / "raw", {"ratings.csv": RATINGS, "movies.csv": content})
    with pytest.raises(ValueError, match=message):
        ml_20m(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "combined_data_1.txt: the file is empty"),
        ("1:\n", "combined_data_1.txt: holds no ratings"),
        ("1,2,2005-01-01\n1:\n", "line 1: a rating before any line with a movie's id"),
        ("1:\n2,6,2005-01-01\n", "line 2: '6' is not a rating"),
        ("1:\n2,5,2005-02-29\n", "line 2: '2005-02-29' is not a date YYYY-MM-DD"),
        ("1:\n2,5,2005-W06-1\n", "line 2: '2005-W06-1' is not a date"),
        ("1:\n2,5,2005-1-1\n", "line 2: '2005-1-1' is not a date"),
        ("1:\n2,5,2005-01-011\n", "line 2: '2005-01-011' is not a date"),
        ("1:\n2,5,0000-01-01\n", "line 2: '0000-01-01' is not a date"),
        ("1:\n2,5,2005-01-01\nx,5,2005-01-01\n", "line 3: 'x' is not a whole number"),
        ("1:\n2,5,2005-01-01\n2:3:\n", "line 3: '2:3' is not a whole number"),
        ("1:\n2,5,2005-01-01\n:\n", "line 3: an empty field is not a whole number"),
        ("1:\n2,5\n", "line 2: expected 3 fields .* found 2"),
        ("1:\n2,5,2005-01-01,7\n", "line 2: expected 3 fields .* found 4"),
        ("1:\n2,5,2005-01-01\n\n", "line 3: expected 3 fields .* found 1"),
        (b"1:\n2,5,2005-01-\xb2\n", "line 2: .* is not a date"),
    ],
)
def test_a_broken_netflix_file_is_refused(tmp_path, content, message):
    raw = write_files(tmp_path / "raw", {"combined_data_1.txt": content})
    with pytest.raises(ValueError, match=message) as caught:
        netflix(raw, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_movie_does_not_run_on_into_the_next_file(tmp_path):
    files = {"combined_data_1.txt": "1:\n2,5,2005-01-01\n", "combined_data_2.txt": "2,5,2005-01-01"}
    raw = write_files(tmp_path / "raw", files)
    with pytest.raises(ValueError, match=r"combined_data_2.txt, line 1: a rating before"):
        netflix(raw, tmp_path / "out")


def test_a_broken_title_is_refused(tmp_path):
    raw = write_files(tmp_path / "raw", {**NETFLIX, "movie_titles.csv": "1,2003\n"})
    with pytest.raises(ValueError, match=r"movie_titles.csv, line 1: expected 3 fields"):
        netflix(raw, tmp_path / "out")


@pytest.mark.parametrize("run", [ml_20m, netflix])
def test_nothing_to_read(tmp_path, run):
    with pytest.raises(ValueError, match=r"holds no (ratings\.csv|combined_data_)"):
        run(write_files(tmp_path / "raw", {"x.txt": ""}), tmp_path / "out")
    with pytest.raises(ValueError, match="there is no such folder or zip archive"):
        run(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
