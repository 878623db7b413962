"""The split by users, against its rules written out naively with dicts and loops."""

import logging
import random
import re
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from build import SG, build, named, pairs_of
from conftest import parts_made_elsewhere, write_inter
from recbole_evcf.data.strong_generalization import PARTS, group_sizes, split_users


def naive_histories(rows):
    """Each user's distinct items in the order of the file, with their times."""
    histories = defaultdict(dict)
    for user, item, *rest in rows:
        histories[user].setdefault(item, rest[0] if rest else None)
    return histories


def by_user(pairs):
    grouped = defaultdict(set)
    for user, item in pairs:
        grouped[user].add(item)
    assert sum(map(len, grouped.values())) == len(pairs)
    return dict(grouped)


def check_against_naive(rows, parts, ratio=0.8, by_time=False):
    """Rules that hold for any parts (lists of pairs), given who is in training.

    Returns the users in training, and what remains of the histories of the others.
    """
    histories = naive_histories(rows)
    train, *held_out = map(by_user, parts)
    assert train == {user: set(histories[user]) for user in train}
    known = set().union(*train.values())
    remains = {
        user: [item for item in history if item in known]
        for user, history in histories.items()
        if user not in train
    }
    # floor((1 - ratio) n) without floating point.
    n_targets = {u: int((1 - Fraction(str(ratio))) * len(r)) for u, r in remains.items()}
    assert held_out[0].keys() == held_out[1].keys()
    assert held_out[2].keys() == held_out[3].keys()
    assert not held_out[0].keys() & held_out[2].keys()
    shown, hidden = {**held_out[0], **held_out[2]}, {**held_out[1], **held_out[3]}
    assert hidden.keys() == {u for u, r in remains.items() if len(r) >= 5 and n_targets[u]}
    for user, items in hidden.items():
        assert len(items) == n_targets[user]
        assert not shown[user] & items
        assert shown[user] | items == set(remains[user])
        if by_time:
            # Python's sort is stable: of equal times, the first in the file is the earlier.
            order = sorted(remains[user], key=lambda item, user=user: histories[user][item])
            assert shown[user] == set(order[: -n_targets[user]])
    return train, remains


def split_rows(rows, shares, seed=0, ratio=0.8, by_time=False):
    """The five parts as pairs, and what was dropped."""
    columns = [np.unique(column, return_inverse=True)[1] for column in zip(*rows)]
    times = columns[2].astype(float) if by_time else None
    pairs = pd.DataFrame({"u": columns[0], "i": columns[1]})
    parts, dropped = split_users(pairs, shares, seed, ratio, times)
    return [[rows[place][:2] for place in part.tolist()] for part in parts], dropped


def parts_of_loaders(loaders):
    """The five parts of built dataloaders as pairs of tokens."""
    train, *held_out = (loader._dataset for loader in loaders)
    parts = [part for each in held_out for part in (pairs_of(each, each.fold_in), pairs_of(each))]
    return [pairs_of(train), *parts]


@pytest.fixture
def rows():
    """60 users, 40 common items, an item of their own each; some rows twice, few distinct times."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(60):
        items = rng.choice(40, size=int(rng.integers(3, 16)), replace=False)
        names = [f"i{item}" for item in items] + [f"own{user}"]
        rows += [(f"u{user}", item, int(rng.integers(4))) for item in names]
    rows += [rows[place] for place in range(0, len(rows), 17)]
    return [rows[place] for place in rng.permutation(len(rows))]


@pytest.fixture
def rare(tiny, rows, tmp_path):
    """Settings that read ``rows`` as the data set ``rare``, split by users."""
    write_inter(tmp_path / "data", "rare", rows)
    return {**tiny, "eval_args": SG}


# The split on arrays


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([[0.5, 0.25, 0.25], [8, 4, 8], [-1, 5, 5], [4, 8, 10]]),
    st.sampled_from([0.8, 0.5, 0.3]),
    st.booleans(),
)
def test_split_follows_the_rules(seed, shares, ratio, by_time):
    rng = np.random.default_rng(seed)
    rows = [tuple(row) for row in rng.integers([20, 25, 6], size=(400, 3)).tolist()]
    # Users 20 and 21 have one item, which is nobody else's.
    rows += [(20, 30, 1), (21, 31, 1)]
    parts, _ = split_rows(rows, shares, seed, ratio, by_time)
    sizes = group_sizes(shares, 22)
    if sum(sizes) < 22:
        # Nothing is known of those who were left out.
        taking_part = {user for part in parts for user, _ in part}
        rows = [row for row in rows if row[0] in taking_part]
    trained, _ = check_against_naive(rows, parts, ratio, by_time)
    assert len(trained) == sizes[0]
    assert len({user for user, _ in parts[2]}) <= sizes[1]
    assert len({user for user, _ in parts[4]}) <= sizes[2]


NO_NUMBERS = [None, "0.8", [0.7, 0.1, 0.1, 0.1], [0.8, 0.1, "0.1"], [0.8, 0.1, True]]
NO_NUMBERS += [[0.8, 0.1, float("nan")], [float("inf"), 0.1, 0.1]]


@pytest.mark.parametrize(
    ("shares", "n_users", "sizes"),
    [
        ([0.8, 0.1, 0.1], 1000, (800, 100, 100)),
        ([0.8, 0.1, 0.1], 10, (8, 1, 1)),
        ([0.6, 0.2, 0.2], 7, (5, 1, 1)),
        ([0.3, 0.3, 0.3], 90, (30, 30, 30)),
        ([-1, 10, 20], 100, (70, 10, 20)),
        ([50, -1, 20], 100, (50, 30, 20)),
        ([5, 20, 30], 100, (5, 20, 30)),
        ((-1, 10000, 10000), 136677, (116677, 10000, 10000)),
        *((wrong, 100, "must be three numbers") for wrong in NO_NUMBERS),
        ([0.8, 0.2, 0.0], 100, "ratios must be above 0 and at most 1"),
        ([1.2, 0.1, 0.1], 100, "ratios must be above 0 and at most 1"),
        ([-1, 0.1, 0.1], 100, "ratios must be above 0 and at most 1"),
        ([-1, -1, 10], 100, "counts must be above 0, and one may be -1"),
        ([-1, 60, 60], 100, "asks for 0 training, 60 validation and 60 test users of 100"),
        ([-1, 50, 50], 100, "asks for 0 training, 50 validation and 50 test users of 100"),
        ([0.999, 0.0005, 0.0005], 100, "asks for 100 training, 0 validation and 0 test users"),
    ],
)
def test_group_sizes(shares, n_users, sizes):
    if isinstance(sizes, tuple):
        assert tuple(group_sizes(shares, n_users)) == sizes
        return
    with pytest.raises(ValueError, match=sizes) as error:
        group_sizes(shares, n_users)
    assert str(error.value).startswith(f"eval_args: split: SG: {shares!r}")


@pytest.mark.parametrize("ratio", [0, 1, -0.5, "0.8", None, float("nan"), True])
def test_fold_in_ratios_that_make_no_sense(ratio):
    with pytest.raises(ValueError, match="fold_in_ratio must lie between 0 and 1, not"):
        split_rows([(u, i) for u in range(9) for i in range(5)], [3, 3, 3], ratio=ratio)


# The split of a data set


@pytest.mark.parametrize("order", ["RO", "TO"])
@pytest.mark.parametrize("ratio", [None, 0.5])
def test_built_datasets_follow_the_rules_and_are_logged(rare, rows, order, ratio, caplog):
    eval_args = {**SG, "order": order, **({} if ratio is None else {"fold_in_ratio": ratio})}
    with caplog.at_level(logging.INFO):
        _, loaders, _, _ = build("Vamp", "rare", {**rare, "eval_args": eval_args})
    parts = parts_of_loaders(loaders)
    log = caplog.text.splitlines()
    for name, part in zip(PARTS, parts):
        users, items = map(set, zip(*part))
        counts = f"{len(users)} users, {len(items)} items, {len(part)} interactions"
        assert f"  {name}: {counts}" in log
    trained, remains = check_against_naive(rows, parts, ratio or 0.8, order == "TO")
    assert len(trained) == 36
    histories = naive_histories(rows)
    unknown = [len(histories[user]) - len(items) for user, items in remains.items()]
    few = sum(len(items) < 5 for items in remains.values())
    for dropped in (
        f"{len(rows) - sum(map(len, histories.values()))} repeated interactions",
        f"{sum(unknown)} held-out interactions with items nobody in training has",
        f"{few} held-out users with fewer than 5 interactions left",
    ):
        assert f"  dropped: {dropped}" in log


@pytest.mark.parametrize("model", ["Vamp", "EASE", "Pop"])
def test_loaders_yield_nothing_but_the_parts(rare, model):
    _, loaders, _, _ = build(model, "rare", {**rare, "eval_batch_size": 90})
    train, *held_out = parts_of_loaders(loaders)
    yielded = torch.cat([batch["user_id"] for batch in loaders[0]]).numpy()
    names = loaders[0]._dataset.id2token("user_id", yielded)
    assert sorted(names) == sorted({user for user, _ in train})
    for loader, fold_in, target in zip(loaders[1:], held_out[::2], held_out[1::2]):
        seen, positives = [], []
        for users, (history_row, history_item), row, item in loader:
            ids = users["user_id"].numpy()
            seen += named(loader._dataset, ids[history_row.numpy()], history_item.numpy())
            positives += named(loader._dataset, ids[row.numpy()], item.numpy())
        assert sorted(seen) == sorted(fold_in)
        assert sorted(positives) == sorted(target)
        for each, part in ((loader.uid2history_item, fold_in), (loader.uid2positive_item, target)):
            items = [(user, item) for user in loader.uid_list.tolist() for item in each[user]]
            assert sorted(named(loader._dataset, *np.array(items).T)) == sorted(part)


def test_items_are_those_of_training_with_their_features(rare, tmp_path):
    names = [f"i{n}" for n in range(40)] + [f"own{n}" for n in range(60)] + ["unused"]
    titles = [(name, f"title of {name}", n, f"x {name}") for n, name in enumerate(names)]
    header = "item_id:token\ttitle:token\tplace:float\ttags:token_seq"
    # In another order than that of the interactions.
    write_inter(tmp_path / "data", "rare", titles[::-1], header, "item")
    columns = {**rare["load_col"], "item": ["item_id", "title", "place", "tags"]}
    _, loaders, model, _ = build("Vamp", "rare", {**rare, "load_col": columns})
    items = {item for _, item in parts_of_loaders(loaders)[0]}
    assert 40 < len(items) < 80
    assert model.n_items == len(items) + 1
    for loader in loaders:
        dataset = loader._dataset
        feat = dataset.get_item_feature()
        assert feat["item_id"].tolist() == list(range(len(items) + 1))
        found = dataset.id2token("item_id", feat["item_id"].numpy()).tolist()
        assert found[0] == "[PAD]"
        assert set(found[1:]) == items
        for number, name in enumerate(found[1:], 1):
            assert dataset.id2token("title", feat["title"][number].item()) == f"title of {name}"
            assert feat["place"][number] == names.index(name)
            tags = feat["tags"][number].numpy()
            assert list(dataset.id2token("tags", tags[tags > 0])) == ["x", name]
    with pytest.raises(ValueError, match="not existed"):
        loaders[0]._dataset.token2id("item_id", "unused")


def test_the_split_depends_on_the_seed_alone(rare, monkeypatch):
    # Otherwise the global random states would be the same again.
    monkeypatch.setattr("build.init_seed", lambda *args: None)

    def parts(model, **changes):
        return list(map(sorted, parts_of_loaders(build(model, "rare", {**rare, **changes})[1])))

    first = parts("Vamp")
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    assert parts("EASE") == first
    sizes = {"epochs": 9, "train_batch_size": 3, "eval_batch_size": 7}
    other = {"topk": [2], "metrics": ["Hit"], "valid_metric": "Hit@2"}
    assert parts("MultiVAE", **sizes, **other) == first
    assert parts("Vamp", reproducibility=False) == first
    assert dict(parts("Vamp", seed=2021)[0]).keys() != dict(first[0]).keys()


def test_counts_that_leave_users_out_are_said(tiny, caplog):
    for shares, said in (([30, 9, 9], True), ([-1, 9, 9], False), ([42, 9, 9], False)):
        caplog.clear()
        build("EASE", "tiny", {**tiny, "eval_args": {**SG, "split": {"SG": shares}}})
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        start = f"eval_args: split: SG: {shares} are counts of users; "
        assert [line.startswith(start) for line in warnings] == [True] * said
        assert all(line.endswith("(-1 stands for all the others).") for line in warnings)


# Five files


def with_more(more):
    """The five parts made elsewhere, with a row more in some."""
    parts = parts_made_elsewhere().items()
    return [[*rows, more[part]] if part in more else rows for part, rows in parts]


@pytest.mark.parametrize("model", ["Vamp", "ItemKNN"])
def test_five_files_are_taken_as_they_are(five, model):
    # A user with a fold-in set alone is not scored.
    expected = with_more({"vf": ("v9", "i1")})
    settings = {**five(expected), "topk": [1], "valid_metric": "MRR@1"}
    _, loaders, _, trainer = build(model, "five", settings)
    assert list(map(sorted, parts_of_loaders(loaders))) == list(map(sorted, expected))
    scored = loaders[1]._dataset.id2token("user_id", loaders[1].uid_list.numpy())
    assert set(scored) == {user for user, _ in expected[2]}
    trainer.fit(loaders[0], loaders[1], saved=False)
    assert 0 <= trainer.evaluate(loaders[2], load_best_model=False)["recall@1"] <= 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"vf": ("v1", "new")}, "vf.inter, line 17: item_id 'new' is not in the training file."),
        ({"vt": ("v1", "new")}, "vt.inter, line 12: item_id 'new' is not in the training file."),
        ({"tf": ("t1", "new")}, "tf.inter, line 17: item_id 'new' is not in the training file."),
        ({"tt": ("t1", "x" * 10**5)}, f"tt.inter, line 12: item_id '{'x' * 57}...' is not in"),
        ({"tt": ("t1", "\x1b[3m")}, r"tt.inter, line 12: item_id '\x1b[3m' is not in the training"),
        ({"vf": ("a1", "i2")}, "vf.inter, line 17: user_id 'a1' is in the training file too"),
        ({"tt": ("a2", "i2")}, "tt.inter, line 12: user_id 'a2' is in the training file too"),
        ({"vt": ("v9", "i2")}, "vt.inter, line 12: user_id 'v9' has no fold-in"),
        ({"tt": ("t9", "i2")}, "tt.inter, line 12: user_id 't9' has no fold-in"),
        # Its input would be both fold-in sets: what the test hides, validation may have shown.
        ({"tf": ("v1", "i2"), "tt": ("v1", "i3")}, "tf.inter, line 17: user_id 'v1' is a valid"),
        ({"vt": ("v2", "i1")}, "vt.inter, line 12: item_id 'i1' is in the user's fold-in set"),
        ({"train": ("NA", "i1")}, "train.inter, line 102: there is no user_id."),
        ({"vt": ("", "i5")}, "vt.inter, line 12: there is no user_id."),
        ({"tf": ("t1", "null")}, "tf.inter, line 17: there is no item_id."),
    ],
)
def test_a_row_that_is_no_split_is_named_with_file_and_line(five, more, sentence):
    with pytest.raises(ValueError, match=re.escape(f"five.{sentence}")) as caught:
        build("Vamp", "five", five(with_more(more)))
    assert len(str(caught.value)) < 500
