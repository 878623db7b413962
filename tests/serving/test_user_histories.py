"""Histories as Python users have them: right under the users' names, or one sentence."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.serving.user_histories import item_token, user_histories

TOKENS = ["10", "7", "3", "0", "5", "1"]
CATALOGUE = ItemCatalogue(np.array(TOKENS, dtype=object), np.ones(6, dtype=np.int64))
EXPECTED = {5: {"3", "7"}, 7: {"10"}, 2: {"0", "1", "5"}}
PAIRS = [(5, 3), (7, 10), (5, 7), (2, 0), (2, 1), (2, 5)]
FRAME = pd.DataFrame(PAIRS, columns=["user", "item"])
MATRIX = np.array([[token in items for token in TOKENS] for items in EXPECTED.values()]) * 2.5


def read(given):
    found = user_histories(given, CATALOGUE, ("user_id", "user"), ("item_id", "item"))
    assert not found.remarks
    dense = found.histories.toarray() > 0
    return {user: set(CATALOGUE.tokens[row]) for user, row in zip(found.users.tolist(), dense)}


TYPES = ["int64", "int8", "Int64", "float64", "Float32", "category", "str", "string", "object"]


@pytest.mark.parametrize("dtype", TYPES)
def test_whole_numbers_of_any_type_stand_for_their_digits(dtype):
    items = FRAME["item"].astype(dtype)
    frame = FRAME.assign(item=items)
    assert read(frame) == EXPECTED
    assert read(frame.groupby("user", sort=False)["item"].apply(list)) == EXPECTED
    numbered = dict(enumerate(EXPECTED.values()))
    lists = [items[FRAME["user"] == user] for user in EXPECTED]
    assert read([each.tolist() for each in lists]) == numbered
    assert read([each.to_numpy() for each in lists]) == numbered
    assert read(lists) == numbered


def test_a_category_of_numbers_and_numbers_of_other_packages():
    assert read(FRAME.astype({"item": "int64"}).astype({"item": "category"})) == EXPECTED
    assert read([torch.tensor([3, 7]), (torch.tensor(10.0), np.int8(1))]) == {
        0: {"3", "7"},
        1: {"10", "1"},
    }
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


@pytest.mark.parametrize(
    "given",
    [
        FRAME,
        FRAME.rename(columns={"user": "user_id", "item": "item_id"}),
        FRAME.to_dict("list"),
        FRAME.to_dict("series"),
        FRAME.to_dict("records"),
        FRAME.to_dict("index"),
        FRAME.to_dict(),
        FRAME.groupby("user", sort=False)["item"].apply(list),
        FRAME.groupby("user", sort=False)["item"].apply(tuple),
        FRAME.groupby("user", sort=False)["item"].agg(set),
        FRAME.groupby("user", sort=False)["item"].apply(list).to_dict(),
        dict(list(FRAME.groupby("user", sort=False)["item"])),
        {5: ("3", "7"), 7: ("10",), 2: ["0", "1", "5"]},
    ],
    ids=lambda given: type(given).__name__,
)
def test_users_keep_their_names(given):
    assert read(given) == EXPECTED


@pytest.mark.parametrize(
    "make",
    [
        np.array,
        lambda matrix: np.array(matrix, dtype=bool),
        lambda matrix: np.array(matrix > 0, dtype=np.int8),
        np.asmatrix,
        torch.tensor,
        lambda matrix: torch.tensor(matrix).bfloat16(),
        lambda matrix: torch.tensor(matrix).bool(),
        lambda matrix: torch.tensor(matrix, requires_grad=True),
        lambda matrix: torch.tensor(matrix).to_sparse(),
        lambda matrix: torch.tensor(matrix).to_sparse_csr(),
        scipy.sparse.csr_matrix,
        scipy.sparse.lil_matrix,
        scipy.sparse.coo_array,
        lambda matrix: scipy.sparse.csc_matrix(matrix, dtype=bool),
    ],
)
def test_a_matrix_has_the_columns_of_item_tokens(make):
    assert read(make(MATRIX)) == dict(enumerate(EXPECTED.values()))
    with pytest.raises(ValueError, match=r"shape \(3, 5\), and the model knows 6 items: .* order"):
        read(make(MATRIX[:, 1:]))


PAIRED = "pairs may be a user and an item, or two items: give a list of items for each user"
LISTS = "histories must be lists of item tokens, one for each user"
SHAPE = "the matrix has the shape .* and the model knows 6 items"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PAIRS, PAIRED),
        (zip(*zip(*PAIRS)), PAIRED),
        (FRAME.groupby("user"), PAIRED),
        (FRAME.groupby("user")["item"], PAIRED),
        ({5: [3, 7]}.items(), PAIRED),
        (FRAME.itertuples(), LISTS),
        (FRAME.itertuples(index=False), PAIRED),
        (FRAME.values, SHAPE),
        (FRAME.astype(str).to_numpy(), SHAPE),
        (FRAME.to_records(), SHAPE),
        (FRAME["item"], LISTS),
        (FRAME.set_index("user")["item"], LISTS),
        (FRAME.set_index("user"), "no column user_id or user; its columns are item"),
        ([FRAME, FRAME], LISTS),
        (dict(list(FRAME.groupby("user"))), LISTS),
        ({5: {"3": 1}}, LISTS),
        ({5: ["3"], 7: {"3": 1}}, LISTS),
        ([{"user": 5, "item": 3}, 7], LISTS),
        ([{"user": 5, "item": 3}, {"user": 7}], "column item has missing values"),
        ([["3"], 7], LISTS),
        (torch.tensor([3, 7]), SHAPE),
        (np.array(["3", "7"]), SHAPE),
        (np.zeros((2, 3, 6)), SHAPE),
        ([np.eye(6)], LISTS),
        ([["3"], ["7", ["10"]]], r"\['10'\] is not an item token"),
        (pd.DataFrame({"user": [5], "item": [[3, 7]]}), r"\[3, 7\] is not an item token"),
        (MATRIX.astype(int).astype(bool).astype(int).tolist(), "a 0 or a 1 for each of the 6"),
        (list(MATRIX > 0), "a 0 or a 1 for each of the 6 items: give such rows as one array"),
        (np.where(MATRIX > 0, 1, np.nan), r"missing values \(NaN\): no interaction is a 0"),
        (np.full((2, 6), "3"), "the matrix holds no numbers but <U1"),
        (MATRIX.astype(object), "the matrix holds no numbers but object"),
        ({None: [3]}, "the name of a user is missing"),
        (pd.Series([[3]], index=[np.nan]), "the name of a user is missing"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(given)
    assert "\n" not in str(caught.value)
