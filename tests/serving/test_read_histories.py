"""Histories from files: every format gives the same, every fault one sentence."""

import json

import numpy as np
import pytest

from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.serving.read_histories import read_histories, read_tokens

PAIRS = [
    ("u1", "a"),
    ("u2", "7"),
    ("u1", "b"),
    ("u3", "x"),
    ("u1", "a"),
    ("ü, 4", "NA"),
    ("u2", "y"),
]
EXPECTED = {"u1": {"a", "b"}, "u2": {"7"}, "u3": set(), "ü, 4": {"NA"}}
CATALOGUE = ItemCatalogue(np.array(["a", "b", "7", "NA"], dtype=object), np.ones(4, dtype=np.int64))


def read(path, content=None, **options):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    fields = ("user_id", "user"), ("item_id", "item")
    return read_histories(str(path), CATALOGUE, *fields, **options)


def table(header, separator, quote=False, more=""):
    mark = '"' if quote else ""
    rows = [f"{mark}{user}{mark}{separator}{item}{more}" for user, item in PAIRS]
    return "\n".join([header, *rows]) + "\n"


def json_lines():
    users = dict.fromkeys(user for user, _ in PAIRS)
    lines = [
        {"user": user, "items": [item for owner, item in PAIRS if owner == user]} for user in users
    ]
    return "\n\n".join(map(json.dumps, lines))


FORMATS = {
    "h.csv": (table("user,item", ",", quote=True), {}),
    "bom.csv": (b"\xef\xbb\xbf" + table("user_id,item_id", ",", quote=True).encode(), {}),
    "typed.csv": (table("user_id:token,item_id:token", ",", quote=True), {}),
    "more.csv": (table("user,item,rating", ",", quote=True, more=",5"), {}),
    "windows.CSV": (table("user,item", ",", quote=True).replace("\n", "\r\n"), {}),
    "h.tsv": (table("user\titem", "\t"), {}),
    "semicolon.csv": (table("user;item", ";"), {"separator": ";"}),
    "h.inter": (table("user_id:token\titem_id:token", "\t"), {}),
    "more.inter": (table("user_id:token\titem_id:token\tr:float", "\t", more="\t1"), {}),
    "h.jsonl": (json_lines(), {}),
    "numbers.jsonl": (json_lines().replace('"7"', "7"), {}),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [2**18, 2])
def test_formats(name, size, tmp_path, monkeypatch):
    # In one piece, and in pieces over which users are scattered.
    monkeypatch.setattr("recbole_evcf.serving.read_histories.ROWS_AT_ONCE", size)
    monkeypatch.setattr("recbole_evcf.serving.read_histories.USERS_AT_ONCE", size)
    content, options = FORMATS[name]
    found = read(tmp_path / name, content, **options)
    assert found.users.tolist() == list(EXPECTED)
    dense = found.histories.toarray() > 0
    assert [set(CATALOGUE.tokens[row]) for row in dense] == list(EXPECTED.values())
    left_out = "left out 2 interactions with 2 items that the model does not know: 'x', 'y'"
    assert found.remarks == (left_out,)


@pytest.mark.parametrize("size", [2**18, 2])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_rows_without_a_user_or_an_item_are_left_out_with_a_remark(
    separator, size, tmp_path, monkeypatch
):
    monkeypatch.setattr("recbole_evcf.serving.read_histories.ROWS_AT_ONCE", size)
    lines = ["user_id:token,item_id:token", "u1,a", "u2", ",b", "u1,7", ",", "u3,"]
    path = tmp_path / ("h.csv" if separator == "," else "h.inter")
    found = read(path, "\n".join(lines).replace(",", separator) + "\n")
    assert found.users.tolist() == ["u1"]
    assert found.histories.toarray().tolist() == [[1, 0, 1, 0]]
    rows = "4 rows without a user or an item, the first being row 2 below the header"
    assert found.remarks == (f"{path}: left out {rows}",)


FAULTS = [
    ("h.csv", "", "h.csv is empty"),
    ("h.csv", "user,item\n", "holds no rows"),
    ("h.csv", "user;item\nu1;a\n", "the line has ';' in it: is the separator ',' right?"),
    ("h.csv", "name,item\nu1,a\n", "no column user_id or user; the columns are 'name', 'item'"),
    ("h.csv", "user,item\nu1\n,b\n", "holds 2 rows without a user or an item, and no other"),
    ("h.csv", "user,item\nu1,a\nu2,b,c\n", "Expected 2 fields in line 3, saw 3"),
    ("h.csv", "user,item\nu1,a,b\nu2,b,c\n", "more columns than the header"),
    ("h.csv", 'user,item\n"u1,a\n', "EOF inside string|holds 1 row without a user"),
    ("h.csv", b"user,item\nu\xff,a\n", "not text in UTF-8"),
    ("h.csv", b"PK\x03\x04\x00\x00\xf1\x80", "no column|not text in UTF-8"),
    ("h.tsv", "user,item\nu1,a\n", "is the separator '\\\\t' right?"),
    ("h.inter", "", "h.inter is empty"),
    ("h.inter", "user_id,item_id\nu1,a\n", "is the separator"),
    ("h.inter", "user_id:token\tmovie:token\nu1\ta\n", "no column item_id or item"),
    ("h.inter", "user_id:token\titem_id:token\nu1\n", "holds 1 row without a user"),
    (
        "h.inter",
        "user_id:token\titem_id:token\titem_id:float\nu1\ta\t1\n",
        "column item_id more than once",
    ),
    ("h.jsonl", "", "h.jsonl is empty"),
    ("h.jsonl", "\n \n", "h.jsonl is empty"),
    ("h.jsonl", '{"user": "u1", "items": ["a"]}\n{"user": ', "line 2 is not valid JSON"),
    ("h.jsonl", "[" * 100000, "line 1 is not valid JSON"),
    ("h.jsonl", b"\xff\xfe{}", "line 1 is not valid JSON"),
    ("h.jsonl", '{"user": "u1"}', "line 1 must be of the form"),
    ("h.jsonl", "7", "line 1 must be of the form"),
    ("h.jsonl", '{"user": "u1", "items": "abc"}', "items a list of strings"),
    ("h.jsonl", '{"user": "u1", "items": [1.5]}', "items a list of strings"),
    ("h.jsonl", '{"user": null, "items": ["a"]}', "user must be a string"),
    ("h.jsonl", '{"user": "u1", "items": ["\\ud800"]}', "line 1 names half a character"),
    ("h.txt", "u1 a\n", r"read from .inter, .csv, .tsv, .jsonl, .ndjson files"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_faults(name, content, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name, content)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_other_faults(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        read(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read(tmp_path / "folder.csv")
    for separator in (";;", '"', ""):
        with pytest.raises(ValueError, match="separator must be one character"):
            read(tmp_path / "h.csv", "user,item\nu,a\n", separator=separator)
    for content, message in ((b" \n", "names no item"), (b"\xff\n", "not a text file")):
        (tmp_path / "items.txt").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_tokens(str(tmp_path / "items.txt"))
