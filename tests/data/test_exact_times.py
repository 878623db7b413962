"""A split in the order of time is exact to the second, for every model."""

import numpy as np
import pandas as pd
import pytest
import torch

from build import RS, build, pairs_of
from conftest import write_inter


@pytest.fixture
def seconds(tiny, tmp_path):
    """Interactions seconds apart at a Unix time, and the settings that read them."""
    rng = np.random.default_rng(2)
    rows = []
    for user in range(60):
        times = 1_700_000_000 + int(rng.integers(10_000)) + 3 * rng.permutation(12)
        items = rng.choice(40, 12, replace=False)
        rows += [(f"u{user}", f"i{item}", int(time)) for item, time in zip(items, times)]
    write_inter(tmp_path / "data", "seconds", rows)
    return pd.DataFrame(rows, columns=["user", "item", "time"]), tiny


def parts_of(model, settings, split):
    sequential = {"train_neg_sample_args": None} if model == "GRU4Rec" else {}
    settings = {**settings, **sequential, "eval_args": {**RS, "split": split, "order": "TO"}}
    return [loader._dataset for loader in build(model, "seconds", settings)[1]]


def rows_of(frame) -> set:
    return set(zip(frame.user, frame.item))


@pytest.mark.parametrize("model", ["BPR", "HVamp", "GRU4Rec"])
@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"RS": [0.8, 0.1, 0.1]}])
def test_the_latest_item_of_unix_seconds_is_the_test_item(seconds, model, split):
    frame, settings = seconds
    _, valid, test = parts_of(model, settings, split)
    ordered = frame.sort_values("time").groupby("user")
    assert set(pairs_of(test)) == rows_of(ordered.nth(-1))
    assert set(pairs_of(valid)) == rows_of(ordered.nth(-2))


def test_a_sequence_is_in_exact_order(seconds):
    frame, settings = seconds
    _, _, test = parts_of("GRU4Rec", settings, {"LS": "valid_and_test"})
    feat = test.inter_feat
    for row in range(len(feat)):
        user = test.id2token("user_id", feat["user_id"][row])
        own = frame[frame.user == user].sort_values("time").item.tolist()
        length = int(feat["item_length"][row])
        assert list(test.id2token("item_id", feat["item_id_list"][row][:length])) == own[:-1]


@pytest.mark.parametrize("model", ["BPR", "HVamp"])
def test_the_boundary_of_a_split_by_time_is_exact(seconds, model):
    frame, settings = seconds
    train, valid, test = parts_of(model, settings, {"TS": [0.8, 0.1, 0.1]})
    late = frame.time > np.percentile(frame.time, 90)
    assert set(pairs_of(test)) == rows_of(frame[late])
    early = frame[~late].sort_values("time").groupby("user")
    first = early.cumcount() < (early.item.transform("size") * (0.8 / 0.9)).astype(int)
    assert set(pairs_of(train)) == rows_of(frame[~late][first.reindex(frame[~late].index)])
    assert len(pairs_of(valid)) == (~late).sum() - first.sum()


@pytest.mark.parametrize("split", [{"LS": "valid_and_test"}, {"SG": [0.5, 0.2, 0.3]}])
def test_models_see_times_as_recbole_makes_them(seconds, split):
    _, settings = seconds
    for part in parts_of("EASE", settings, split):
        assert part.inter_feat["timestamp"].dtype == torch.float32
