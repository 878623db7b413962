"""Generated data: exact counts, no pair twice, the stated tails, the same with the same seed."""

import itertools

import numpy as np
import pandas as pd
import pytest

import generate
from generate import Shape

SHAPES = [
    Shape(300, 200, 6_000, 120),
    Shape(1, 10, 10, 10),
    Shape(50, 40, 89, 40),
    Shape(20, 30, 600, 30),
    Shape(400, 3_000, 9_000, 500),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_counts_are_exact(shape):
    users, items = generate.interactions(shape, seed=3)
    assert len(users) == len(items) == shape.interactions
    assert np.array_equal(np.unique(users), np.arange(shape.users))
    assert np.array_equal(np.unique(items), np.arange(shape.items))
    assert np.bincount(users).max() == shape.longest
    assert len(set(zip(users.tolist(), items.tolist()))) == shape.interactions
    assert (np.diff(users) >= 0).all()


def test_the_seed_decides():
    first, second, other = (generate.interactions(SHAPES[0], seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_activity_has_the_stated_tail():
    lengths = generate._lengths(generate.ML_20M, np.random.default_rng(0))
    assert lengths.sum() == generate.ML_20M.interactions
    assert (lengths.min(), lengths.max()) == (5, 3_177)
    assert np.mean(lengths) / np.median(lengths) == pytest.approx(np.exp(1.2**2 / 2), rel=0.05)
    # One and two standard deviations above the median, in logarithms.
    median, one, two = np.log(np.quantile(lengths, [0.5, 0.841345, 0.977250]))
    assert one - median == pytest.approx(1.2, rel=0.02)
    assert two - median == pytest.approx(2.4, rel=0.02)


@pytest.mark.parametrize("draw", [generate._by_keys, generate._by_rejection])
def test_items_are_drawn_one_after_the_other_by_popularity(draw):
    popularity = np.array([0.6, 0.25, 0.1, 0.05])
    n_users = 40_000
    users, items = draw(
        np.arange(n_users), np.full(n_users, 2), popularity, np.random.default_rng(0)
    )
    assert np.array_equal(np.bincount(users), np.full(n_users, 2))
    expected = np.zeros(4)
    for first, second in itertools.permutations(range(4), 2):
        probability = popularity[first] * popularity[second] / (1 - popularity[first])
        expected[[first, second]] += probability
    assert np.bincount(items) / n_users == pytest.approx(expected, abs=0.01)


def test_the_file_is_read_back(tmp_path):
    path = tmp_path / "tiny" / "tiny.inter"
    arguments = ["--users=30", "--items=20", "--interactions=200", "--longest=18", "--seed=4"]
    assert generate.main([str(path), *arguments]) == 0
    frame = pd.read_csv(path, sep="\t")
    assert list(frame) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    users, items = generate.interactions(Shape(30, 20, 200, 18), seed=4)
    assert np.array_equal(frame["user_id:token"], users + 1)
    assert np.array_equal(frame["item_id:token"], items + 1)
    assert set(frame["rating:float"]) == {4.0, 4.5, 5.0}
    assert list(tmp_path.glob("**/*.part")) == []


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ((10, 5, 30, 6), "more items"),
        ((10, 20, 101, 10), "that many"),
        ((10, 20, 18, 10), "each user"),
        ((10, 50, 40, 10), "each item"),
        ((0, 5, 5, 5), "at least 1"),
    ],
)
def test_impossible_shapes_are_refused(counts, why):
    with pytest.raises(ValueError, match=why):
        Shape(*counts)
