"""Histories from Python and from files: right under the users' names, or one sentence."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.data.prepare.table import prepare_table
from recbole_evcf.serving.user_histories import (
    item_token,
    read_histories,
    read_tokens,
    user_histories,
)

FIELDS = ("user_id", "user"), ("item_id", "item")
TOKENS = ["10", "7", "3", "0", "5", "1"]
EXPECTED = {5: {"3", "7"}, 7: {"10"}, 2: {"0", "1", "5"}}
PAIRS = [(5, 3), (7, 10), (5, 7), (2, 0), (2, 1), (2, 5)]
FRAME = pd.DataFrame(PAIRS, columns=["user", "item"])
GROUPS = FRAME.groupby("user", sort=False)["item"]
MATRIX = np.array([[token in items for token in TOKENS] for items in EXPECTED.values()]) * 2.5


def catalogue(tokens):
    return ItemCatalogue(np.array(tokens, dtype=object), np.ones(len(tokens), dtype=np.int64))


def by_user(found, tokens):
    dense = found.histories.toarray() > 0
    return {user: set(np.array(tokens)[row]) for user, row in zip(found.users.tolist(), dense)}


def read(given):
    found = user_histories(given, catalogue(TOKENS), FIELDS)
    assert not found.remarks
    return by_user(found, TOKENS)


TYPES = ["int64", "int8", "Int64", "float64", "Float32", "category", "str", "string", "object"]


@pytest.mark.parametrize("dtype", TYPES)
def test_whole_numbers_of_any_type_stand_for_their_digits(dtype):
    items = FRAME["item"].astype(dtype)
    frame = FRAME.assign(item=items)
    assert read(frame) == EXPECTED
    assert read(frame.groupby("user", sort=False)["item"].apply(list)) == EXPECTED
    lists = [items[FRAME["user"] == user] for user in EXPECTED]
    for given in (lists, [each.tolist() for each in lists], [each.to_numpy() for each in lists]):
        assert read(given) == dict(enumerate(EXPECTED.values()))


def test_numbers_of_other_packages():
    lists = [torch.tensor([3, 7]), (torch.tensor(10.0), np.int8(1))]
    assert read(lists) == {0: {"3", "7"}, 1: {"10", "1"}}
    assert item_token(np.str_("07")) == "07"
    assert item_token(2.0**70) == str(2**70)


@pytest.mark.parametrize("value", [3.5, np.float32(3.5), True, None, np.nan, pd.NA, np.inf, [3, 7]])
def test_what_is_no_token_is_named(value):
    # pandas makes one NaN of all that is missing.
    missing = np.size(value) == 1 and pd.isna(value)
    shown = "nan" if missing else repr(getattr(value, "item", lambda: value)())
    message = f"^{re.escape(shown)} is not an item token: tokens are strings, or whole numbers"
    forms = [{5: ["3", value]}, [[3, 7], [value]], pd.Series([[3], [7, value]], index=[5, 7])]
    if np.size(value) == 1 and not missing:
        forms.append(pd.DataFrame({"user": [5, 5], "item": pd.Series([3, value], dtype=object)}))
    for given in forms:
        with pytest.raises(ValueError, match=message):
            read(given)


def test_users_keep_their_names():
    renamed = FRAME.rename(columns={"user": "user_id", "item": "item_id"})
    columns = [FRAME.to_dict(form) for form in ("list", "series", "dict")]
    lists = [GROUPS.apply(list), GROUPS.agg(set), GROUPS.apply(list).to_dict(), dict(list(GROUPS))]
    for given in (FRAME, renamed, *columns, *lists):
        assert read(given) == EXPECTED


@pytest.mark.parametrize(
    "make",
    [
        np.array,
        lambda matrix: np.array(matrix, dtype=bool),
        torch.tensor,
        lambda matrix: torch.tensor(matrix).bfloat16(),
        lambda matrix: torch.tensor(matrix, requires_grad=True),
        lambda matrix: torch.tensor(matrix).to_sparse(),
        lambda matrix: torch.tensor(matrix).to_sparse_csr(),
        scipy.sparse.csr_matrix,
        scipy.sparse.coo_array,
        lambda matrix: scipy.sparse.csc_matrix(matrix, dtype=bool),
    ],
)
def test_a_matrix_has_the_columns_of_item_tokens(make):
    assert read(make(MATRIX)) == dict(enumerate(EXPECTED.values()))
    with pytest.raises(ValueError, match=r"of the model's 6 items, .* has the shape \(3, 5\)"):
        read(make(MATRIX[:, 1:]))


PAIRED = "pairs may be a user and an item, or two items: give a list of items for each user"
LISTS = "histories must be lists of item tokens, one for each user"
SHAPE = "a matrix of histories has numbers in a row for each user and a column for each of the"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PAIRS, PAIRED),
        (FRAME.groupby("user"), PAIRED),
        (GROUPS, PAIRED),
        ({5: [3, 7]}.items(), PAIRED),
        (FRAME.itertuples(), LISTS),
        (FRAME.values, SHAPE),
        (FRAME.set_index("user")["item"], LISTS),
        (FRAME.set_index("user"), "one column must be named user_id or user; .* are 'item'"),
        ([FRAME, FRAME], LISTS),
        (FRAME.to_dict("records"), LISTS),
        (FRAME.astype(float).replace(10, np.nan), "nan is not an item token"),
        ([["3"], 7], LISTS),
        ([np.eye(6)], LISTS),
        ([["3"], ["7", ["10"]]], r"\['10'\] is not an item token"),
        (pd.DataFrame({"user": [5], "item": [[3, 7]]}), r"\[3, 7\] is not an item token"),
        (MATRIX.astype(int).astype(bool).astype(int).tolist(), "a 0 or a 1 for each of the 6"),
        (np.where(MATRIX > 0, 1, np.nan), r"missing values \(NaN\): no interaction is a 0"),
        (MATRIX.astype(object), "and the type object"),
        ({None: [3]}, "the name of a user is missing"),
        (pd.Series([[3]], index=[np.nan]), "the name of a user is missing"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(given)
    assert "\n" not in str(caught.value)


# From files.

OWNERS = ("u1", "u2", "u1", "u3", "u1", "ü, 4", "u2")
ROWS = list(zip(OWNERS, ("a", "7", "b", "x", "a", "NA", "y")))
IN_FILES = {"u1": {"a", "b"}, "u2": {"7"}, "u3": set(), "ü, 4": {"NA"}}
KNOWN = ["a", "b", "7", "NA"]


def read_file(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_histories(str(path), catalogue(KNOWN), FIELDS, **options)


def table(header, separator, more=""):
    mark = '"' if separator == "," else ""
    rows = [f"{mark}{user}{mark}{separator}{item}{more}" for user, item in ROWS]
    return "\n".join([header, *rows]) + "\n"


def json_lines():
    lists = {user: [item for owner, item in ROWS if owner == user] for user in IN_FILES}
    return "\n\n".join(json.dumps({"user": u, "items": items}) for u, items in lists.items())


FORMATS = {
    "h.csv": table("user,item", ","),
    "bom.csv": b"\xef\xbb\xbf" + table("user_id,item_id", ",").encode(),
    "typed.csv": table("user_id:token,item_id:token", ","),
    "more.csv": table("user,item,rating", ",", more=",5"),
    "windows.CSV": table("user,item", ",").replace("\n", "\r\n"),
    "h.tsv": table("user\titem", "\t"),
    "semicolon.csv": table("user;item", ";"),
    "more.inter": table("user_id:token\titem_id:token\tr:float", "\t", more="\t1"),
    "h.jsonl": json_lines(),
    "numbers.jsonl": json_lines().replace('"7"', "7"),
}


@pytest.fixture(params=[2**18, 2], ids=["at once", "in pieces"])
def _pieces(request, monkeypatch):
    """In pieces users are scattered over several."""
    for name in ("ROWS_AT_ONCE", "USERS_AT_ONCE"):
        monkeypatch.setattr(f"recbole_evcf.serving.user_histories.{name}", request.param)


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same(name, tmp_path):
    options = {"separator": ";"} if name == "semicolon.csv" else {}
    found = read_file(tmp_path / name, FORMATS[name], **options)
    assert list(by_user(found, KNOWN).items()) == list(IN_FILES.items())
    left_out = "left out 2 interactions with 2 items that the model does not know: 'x', 'y'"
    assert found.remarks == [left_out]


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("separator", [",", "\t"])
def test_rows_without_a_user_or_an_item_are_left_out_with_a_remark(separator, tmp_path):
    lines = ["user_id:token,item_id:token", "u1,a", "u2", ",b", "u1,7", ",", "u3,"]
    path = tmp_path / ("h.csv" if separator == "," else "h.inter")
    found = read_file(path, "\n".join(lines).replace(",", separator) + "\n")
    assert by_user(found, KNOWN) == {"u1": {"a", "7"}}
    rows = "4 rows without a user or an item, the first being row 2 below the header"
    assert found.remarks == [f"{path}: left out {rows}"]


def test_ids_of_digits_are_no_numbers(tmp_path):
    found = read_file(tmp_path / "h.csv", "user,item\n07,7\n7.0,07\n1e3,7.0\n")
    assert by_user(found, KNOWN) == {"07": {"7"}, "7.0": set(), "1e3": set()}


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize(
    ("users", "tokens"), [([1.0, 2.0, None, None, 4.0], "124"), ([True, False], ["True", "False"])]
)
def test_numbers_in_parquet_are_what_prepare_makes_of_them(users, tokens, tmp_path):
    pytest.importorskip("pyarrow")
    items = [4006381333931.0, None, 7.0, np.nan, 4006381333931.0][: len(users)]
    path = str(tmp_path / "h.parquet")
    pd.DataFrame({"user": users, "item": items}).to_parquet(path)
    found = read_histories(path, catalogue(["7", "4006381333931"]), FIELDS)
    expected = {tokens[0]: {"4006381333931"}} | ({"4": {"4006381333931"}} if users[2:] else {})
    assert by_user(found, ["7", "4006381333931"]) == expected
    prepare_table(path, str(tmp_path / "made"))
    made = pd.read_csv(tmp_path / "made.inter", sep="\t", dtype=str)
    assert dict(made.itertuples(index=False, name=None)) == {u: min(i) for u, i in expected.items()}


NO_ROW = "no line has a user and an item"
FORM = r'is not JSON in UTF-8 of the form \{"user": "u1", "items": \["i1", "i2"\]\}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("h.csv", "", "No columns to parse from file"),
        ("h.csv", "user,item\nu1\n,b\n", NO_ROW),
        ("h.csv", "user;item\nu1;a\n", "or user; the columns are 'user;item'"),
        ("h.csv", "name,item\nu1,a\n", "one column must be named user_id or user; the columns"),
        ("h.csv", "user,item\nu1,a\nu2,b,c\n", "Expected 2 fields in line 3, saw 3"),
        ("h.csv", "user,item\nu1,a,b\nu2,b,c\n", "more columns than the header"),
        ("h.csv", b"user,item\nu\xff,a\n", "codec can't decode byte 0xff"),
        ("h.inter", "user\titem:token\titem:float\nu1\ta\t1\n", "one column must be named"),
        ("h.csv", "user,item,item\nu1,a,b\n", "one column must be named item_id or item"),
        ("h.parquet.gz", b"PAR1", "Parquet is compressed inside"),
        ("h.jsonl", "\n \n", NO_ROW),
        ("h.jsonl", '{"user": "u1", "items": ["a"]}\n{"user": ', f"line 2 {FORM}"),
        ("h.jsonl", "[" * 100000, f"line 1 {FORM}"),
        ("h.jsonl", b"\xff\xfe{}", FORM),
        ("h.jsonl", '{"user": "u1", "items": "abc"}', FORM),
        ("h.jsonl", '{"user": "u1", "items": [1.5]}', FORM),
        ("h.jsonl", '{"user": "u1", "items": [""]}', FORM),
        ("h.jsonl", '{"user": "u1", "items": ["\\ud800"]}', FORM),
        ("h.txt", "u1 a\n", r"histories are in .inter, .csv, .tsv, .parquet or .jsonl files"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(name, content, message, tmp_path):
    with pytest.raises(ValueError, match=rf"^\S*/{name}: .*{message}") as caught:
        read_file(tmp_path / name, content)
    assert "\n" not in str(caught.value)


def test_other_faults_of_files(tmp_path):
    with pytest.raises(ValueError, match="separator must be one character"):
        read_file(tmp_path / "h.csv", "user,item\nu,a\n", separator=";;")
    path = tmp_path / "items.txt"
    for content, message in ((b" \n", "names no item"), (b"\xff\n", "not a text file")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_tokens(str(path))
