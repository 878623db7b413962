"""Raw data become atomic files, row for row; broken ones become one sentence."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from prepare_raw_files import (
    ATOMIC_NAMES,
    FILES,
    MOVIES,
    PRO_SG,
    RATINGS,
    expected_rows,
    write_files,
    write_zip,
    written_rows,
)
from recbole_evcf.data.prepare import KINDS, prepare, raw

ITEMS = {
    "ml-20m": [
        ["2", "Jumanji (1995)", "Adventure Children"],
        ["29", "City of Lost Children, The (Cité des enfants perdus, La) (1995)", "Sci-Fi"],
        ["131262", '"""Great Performances"" Cats (1998)"', ""],
    ],
    "netflix": [["1", "2003", "Dinosaur Planet"], ["2", "", "7 Seconds, or été"]],
}


@pytest.mark.parametrize("chunk", [1, 3, 10**6])
@pytest.mark.parametrize("way", ["folder", "zip", "windows"])
@pytest.mark.parametrize("kind", [*FILES])
def test_each_kind(tmp_path, monkeypatch, kind, way, chunk):
    monkeypatch.setattr(raw, "CHUNK_ROWS", chunk)
    monkeypatch.chdir(tmp_path)
    files, where = FILES[kind], tmp_path / "raw"
    if way == "windows":
        files = {name: content.replace(b"\n", b"\r\n") for name, content in files.items()}
    (write_zip if way == "zip" else write_files)(where, files)
    report = prepare(where, "mine", kind).splitlines()
    assert report[0] == f"dataset/mine: prepared from {kind}"
    folder = tmp_path / "dataset" / "mine"
    for suffix, rows in expected_rows(kind, files).items():
        assert written_rows(folder / f"mine.{suffix}") == rows
    if kind == "pro_sg":
        assert report[-4:] == ["in all:", "  interactions 16", "  users 7", "  items 4"]
        assert yaml.safe_load((folder / "mine.yaml").read_text()) == {
            "benchmark_filename": list(ATOMIC_NAMES.values()),
            "load_col": {"inter": ["user_id", "item_id"]},
        }
    else:
        assert written_rows(folder / "mine.item") == ITEMS[kind]


@pytest.mark.parametrize("chunk", [100, 10**6])
def test_counts_beside_the_published_ones(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(raw, "CHUNK_ROWS", chunk)
    rng = np.random.default_rng(0)
    users, items = rng.geometric(0.004, 3000) * 10**14, rng.geometric(0.002, 3000)
    stars = rng.integers(1, 11, 3000) / 2
    table = pd.DataFrame({"userId": users, "movieId": items, "rating": stars, "timestamp": 9})
    write_files(tmp_path / "raw", {"ratings.csv": table.to_csv(index=False)})
    liked = table[stars >= 4]
    kept = liked[liked["userId"].map(liked["userId"].value_counts()) >= 5]
    interactions, users = len(kept), kept["userId"].nunique()
    assert prepare(tmp_path / "raw", None, "ml-20m", tmp_path).splitlines()[1:4] == [
        "  ml-20m.inter: 3,000 interactions",
        "after the published filter (rating >= 4, users with >= 5 such ratings):",
        f"  interactions {interactions:,} (published 9,990,682: differs by "
        f"{interactions - 9_990_682:+,})",
    ]
    monkeypatch.setattr("recbole_evcf.data.prepare.ratings.ML_20M", (interactions, users, 1))
    text = prepare(tmp_path / "raw", None, "ml-20m", tmp_path, overwrite=True)
    assert f"  users {users:,} (published {users:,}: equal)" in text


def test_odd_but_possible_is_a_warning(tmp_path):
    files = {**PRO_SG, "test_te.csv": "uid,sid\n5,33\n5,33\n6,2\n"}
    raw_files = write_files(tmp_path / "raw", files)
    said = f"warning: {raw_files / 'test_te.csv'}: 1 rows repeat an earlier one"
    assert said in prepare(raw_files, "a", "pro_sg", tmp_path).splitlines()


RATINGS_FAULTS = [
    ("", "ratings.csv: No columns"),
    ("userId,movieId,rating,timestamp\n", "ratings.csv: holds no ratings"),
    (RATINGS.replace("rating", "stars"), "line 1: the column rating is not in the header"),
    (RATINGS + "x,2,3.5,1\n", "line 6: 'x' is not a whole number .*column userId"),
    *(
        (RATINGS + f"1,2,{stars},1\n", f"line 6: '{re.escape(stars)}' is not a rating from 0.5")
        for stars in ("5.5", "0.0", "nan", "4e0", "4.00000000", "")
    ),
    (RATINGS + "1,2,3.5\0,1\n", "ratings.csv: is not text"),
    (RATINGS + "1" * 300_000, "ratings.csv: is not text"),
    (RATINGS + "1,2,4,1.5\n", "line 6: '1.5' is not whole seconds"),
    (RATINGS + "1,2,4\n", r"line 6: '' is not whole seconds .*column timestamp"),
    (RATINGS + "\n1,2,4,5\n", "line 6: '' is not a whole number"),
    (RATINGS + "1,2,4,5,6\n", "Expected 4 fields in line 6, saw 5"),
    (RATINGS.encode() + b"\xff\xfe,2,4,5\n", "line 6: '\ufffd\ufffd' is not a whole"),
]
MOVIES_FAULTS = [
    ("id,title\n", "movies.csv, line 1: the column movieId"),
    (MOVIES + '3,"x,y\n', "movies.csv: EOF inside string starting at row 4"),
    (MOVIES + "three,x,y\n", "movies.csv, line 5: 'three' is not a whole number"),
    (MOVIES + "2,x,y\n", "movies.csv, line 5: '2' is not new"),
    (MOVIES.encode("latin-1"), "movies.csv, line 3: .* is not UTF-8"),
]
NETFLIX_FAULTS = [
    ("", "line 1: there is no movie's id"),
    ("1:\n", "combined_data_1.txt: holds no ratings"),
    ("1,2,2005-01-01\n1:\n", "line 1: there is no movie's id"),
    ("1,2,2005-01-01,3\n1:\n", "Expected 3 fields in line 1"),
    ("1:\n2,6,2005-01-01\n", "line 2: '6' is not a rating"),
    *(
        (f"1:\n2,5,2005-01-01\n2,5,{day}\n", f"line 3: '{day}' is not a date YYYY-MM-DD")
        for day in ("2005-02-29", "2005-W06-1", "2005-1-1", "2005-01-011", "0000-01-01", "")
    ),
    ("1:\n2,5,2005-01-01\n2:3:\n", "line 3: '2:3' is not a whole number"),
    ("1:\n2,5,2005-01-01\n:\n", "line 3: '' is not a whole number"),
    ("1:\n2,5,2005-01-01,7\n", "Expected 3 fields in line 2, saw 4"),
]
PRO_SG_FAULTS = [
    ("train.csv", "uid,sid\n", "train.csv, line 2: there are no rows"),
    *(
        ("train.csv", f"uid,sid\n1,2\n{user},2\n", f"train.csv, line 3: '{user}' is not a whole")
        for user in ("-1", "02", "9" * 19, "1.0", "")
    ),
    ("train.csv", None, "raw: holds no train.csv"),
    ("test_tr.csv", "uid,sid\n5,10\n5,2\n6,99\n", "line 4: sid 99 is not in the training file"),
    ("test_te.csv", "uid,sid\n5,33\n8,2\n", "te.csv, line 3: uid 8 has no fold-in interaction"),
    ("test_tr.csv", "uid,sid\n5,2\n4,2\n", "line 3: uid 4 is a validation user too"),
]


@pytest.mark.parametrize("chunk", [1, 10**6])
@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        *(("ml-20m", "ratings.csv", *fault) for fault in RATINGS_FAULTS),
        *(("ml-20m", "movies.csv", *fault) for fault in MOVIES_FAULTS),
        *(("netflix", "combined_data_1.txt", *fault) for fault in NETFLIX_FAULTS),
        ("netflix", "combined_data_2.txt", "2,5,2005-01-01", "data_2.txt, line 1: there is no mov"),
        ("netflix", "movie_titles.csv", "1,2003\n", "line 1: '1,2003' is not id,year,title"),
        *(("pro_sg", *fault) for fault in PRO_SG_FAULTS),
    ],
)
def test_broken_raw_data_are_refused(tmp_path, monkeypatch, kind, name, content, message, chunk):
    monkeypatch.setattr(raw, "CHUNK_ROWS", chunk)
    files = {k: v for k, v in {**FILES[kind], name: content}.items() if v is not None}
    if kind == "netflix" and name == "combined_data_1.txt":
        files = {name: content}
    with pytest.raises(ValueError, match=message) as caught:
        prepare(write_files(tmp_path / "raw", files), "a", kind, tmp_path / "out" / "deep")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "folder", "message"),
    [
        ("ml-1m", "raw", "cannot prepare 'ml-1m': the kinds are " + ", ".join(KINDS)),
        ("pro_sg", "raw", "pro_sg needs a name"),
        ("ml-20m", "raw", "raw: holds no ratings.csv"),
        ("netflix", "raw", r"raw: holds no combined_data_\*.txt"),
        ("netflix", "nowhere", "there is no such folder or zip archive"),
    ],
)
def test_nothing_to_prepare(tmp_path, kind, folder, message):
    write_files(tmp_path / "raw", {"x.txt": ""})
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / folder, None, kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()
