"""A table of one's own becomes a data set: what is taken, what is left out, what is refused."""

import gzip
import json
import re

import pandas as pd
import pytest

from recbole_evcf import cli, prepare
from recbole_evcf.data.prepare.table import prepare_table

# A small shop's, with every oddity that was met.
SHOP = """\ufeffuserId,movieId,rating,timestamp
C-008,SKU12A,5,1700000000
C-008,"SKU 7, red",4.5,1700000100
C-009,SKU12A,,1700000200
,SKU12A,3,1700000300
C-010, ,3,1700000300
C-010,SKU12A,much,1700000400
C-010,SKU12A,2,yesterday
C-010,SKU12A,2,1700000500
C-008,SKU12A,1,1700000600
C-010,"SKU\t9",2,1700000700
Zoë,007,4,1700000800
"""
TAKEN = [
    ("C-008", "SKU 7, red", 4.5, 1700000100.0),
    ("C-010", "SKU12A", 2.0, 1700000500.0),
    ("C-008", "SKU12A", 1.0, 1700000600.0),
    ("Zoë", "007", 4.0, 1700000800.0),
]


def written(path):
    types = {"user_id:token": str, "item_id:token": str}
    return list(pd.read_csv(path, sep="\t", dtype=types).itertuples(index=False, name=None))


def test_a_shops_table(tmp_path):
    (tmp_path / "shop.csv").write_text(SHOP, encoding="utf-8")
    report = prepare(tmp_path / "shop.csv", "shop", output=tmp_path)
    file = tmp_path / "shop.csv"
    assert report.splitlines() == [
        f"{tmp_path / 'shop'}: prepared from table",
        "  user=userId, item=movieId, rating=rating, time=timestamp",
        f"  left out: 1 without userId ({file}, line 5)",
        f"  left out: 1 without movieId ({file}, line 6)",
        f"  left out: 1 with control characters in movieId ({file}, line 11)",
        f"  left out: 1 without rating ({file}, line 4)",
        f"  left out: 1 whose rating is not a number ({file}, line 7)",
        "  times are seconds",
        f"  left out: 1 whose timestamp is not a number or a date such as 2026-11-26 or "
        f"2026-11-26T10:30:00Z ({file}, line 8)",
        "  left out: 1 earlier ones of the same user and item",
        "  4 interactions",
        "  3 users",
        "  3 items",
    ]
    assert written(tmp_path / "shop" / "shop.inter") == TAKEN


@pytest.mark.parametrize("form", ["tsv", "semicolon", "parquet", "jsonl", "gz", "frame", "glob"])
def test_forms_of_a_table(tmp_path, form):
    frame = pd.DataFrame(TAKEN, columns=["customer", "sku", "stars", "date"])
    frame["customer"] = [8, 10, 8, 11]
    raw = tmp_path / f"shop.{form}"
    if form == "tsv":
        frame.to_csv(raw, sep="\t", index=False)
    elif form == "parquet":
        frame.to_parquet(raw)
    elif form == "jsonl":
        lines = (json.dumps(row) for row in frame.to_dict("records"))
        raw.write_text("\n".join(lines))
    elif form == "gz":
        raw = tmp_path / "shop.csv.gz"
        raw.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    elif form == "semicolon":
        raw = tmp_path / "shop.csv"
        frame.to_csv(raw, sep=";", index=False)
    elif form == "frame":
        raw = frame
    else:
        raw = tmp_path / "part-*.csv"
        frame[:2].to_csv(tmp_path / "part-1.csv", index=False)
        frame[2:].to_csv(tmp_path / "part-2.csv", index=False)
    prepare(raw if form in ("frame", "glob") else str(raw), "shop", output=tmp_path)
    users = ["8", "10", "8", "11"]
    expected = [(user, *row[1:]) for user, row in zip(users, TAKEN)]
    assert written(tmp_path / "shop" / "shop.inter") == expected


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (["1700000000", "1700000060.5"], "seconds"),
        (["1700000000000", "1700000060500"], "milliseconds"),
        (["1700000000000000", "1700000060500000"], "microseconds"),
        (["2023-11-14T22:13:20Z", "2023-11-14 23:14:20.5+01:00"], "dates"),
        (["2023-11-14 22:13:20", "2023-11-14T22:14:20.500"], "dates"),
        (["2023-11-14 22:13:20", "2023-11-14T22:14:20.500", "9999-12-31T23:59:59"], "dates"),
        (["1700000000", "1700000060.5", "17000000000000000000"], "seconds"),
    ],
)
def test_times(tmp_path, times, unit):
    frame = pd.DataFrame({"user": list("abc")[: len(times)], "item": "x", "time": times})
    report = prepare_table(frame, str(tmp_path / "t"))
    assert f"  times are {unit}" in report
    assert [row[2] for row in written(tmp_path / "t.inter")][:2] == [1700000000, 1700000060.5]


def naive_core(rows, min_user, min_item):
    while True:
        users, items = ([row[n] for row in rows] for n in (0, 1))
        kept = [r for r in rows if users.count(r[0]) >= min_user and items.count(r[1]) >= min_item]
        if kept == rows:
            return rows
        rows = kept


def test_filters(tmp_path):
    rows = [(f"u{n % 7}", f"i{n * n % 13}", n % 5) for n in range(90)]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    prepare_table(frame, str(tmp_path / "t"), min_rating=2, min_user=4, min_item=5)
    liked = {row[:2]: row for row in rows if row[2] >= 2}
    expected = naive_core([*liked.values()], 4, 5)
    assert 0 < len(expected) < len(liked) < len(rows)
    assert sorted(written(tmp_path / "t.inter")) == sorted(expected)


def test_titles(tmp_path):
    (tmp_path / "products.csv").write_text("sku,name\nA,Tea\tpot\nB,Bowl\nC,Cup\n")
    frame = pd.DataFrame({"user": ["a", "b", "b"], "sku": ["A", "A", "Z"]})
    given = {"item_file": tmp_path / "products.csv"}
    assert prepare_table(frame, str(tmp_path / "t"), **given)[-1] == (
        "  1 titles; 1 items have none"
    )
    assert (tmp_path / "t.item").read_text() == "item_id:token\ttitle:token_seq\nA\tTea pot\n"


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ("who,item", {}, "has no column for the user by a usual name; --user may be who, item"),
        ("user,item", {"item": "sku"}, "has no column sku; --item may be user, item"),
        ("user,sku,product_id", {}, "the item may be sku or product_id: say which, --item=sku"),
        ("user,item,item", {}, "the item may be item or item"),
        ("user,item", {"min_rating": 3}, "--min_rating: the table has no column of ratings"),
        ("user,item", {"min_user": 9}, "nothing is left of the table: user=user, item=item; left"),
        ("user,item", {"item_file": pd.DataFrame({"item": ["x"]})}, "--title may be item"),
    ],
)
def test_what_cannot_be_taken(tmp_path, columns, options, message):
    names = columns.split(",")
    frame = pd.DataFrame([["x"] * len(names)], columns=names)
    with pytest.raises(ValueError, match=re.escape(message)):
        prepare(frame, "shop", output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xlsx", "x"),
        ("a.csv", ""),
        ("a.csv", "user,item\n1,2\n1,2,3\n"),
        ("a.csv", "user,item,user\n1,2,3\n"),
        ("a.csv", "user,item\nZoë,2\n"),
        ("a.csv.gz", "x"),
    ],
)
def test_files_that_are_no_table(tmp_path, capsys, name, content):
    (tmp_path / name).write_text(content, encoding="latin-1")
    words = ["prepare", "table", f"--raw={tmp_path / name}", "--name=a", "--output=out"]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: cannot be read as a table (" in line
    assert not (tmp_path / "out").exists()
