"""Faster counting, grouping, splitting and indexing against RecBole's own."""

import logging
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.interaction import Interaction

from build import RS, SG, SIZES, build
from recbole_evcf import speed_up_recbole
from recbole_evcf.model import edlae
from recbole_evcf.model.last_layer import last_layer

speed_up_recbole()


@given(st.lists(st.sampled_from(["u", "v", "w", "1", "é"])))
def test_count_is_counter(values):
    count = dataset_module.Counter
    for array in (pd.Series(values, dtype=str).values, np.array(values, dtype=object)):
        assert list(count(array).items()) == list(Counter(values).items())
    assert count() == Counter()
    numbers = np.array([len(value.encode()) for value in values], dtype=np.int64)
    assert list(count(numbers).items()) == list(Counter(numbers).items())


class OfKeys(Dataset):
    """A data set of one column, which is split into lists of places."""

    def __init__(self, keys):
        self.logger = logging.getLogger()
        places = torch.arange(len(keys))
        self.inter_feat = Interaction({"key": torch.tensor(keys), "place": places})

    def _drop_unused_col(self):
        pass

    def copy(self, feat):
        return feat["place"].tolist()


@given(st.lists(st.integers(1, 6), min_size=1), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_grouping_and_splitting_are_recboles(keys, ratios):
    dataset = OfKeys(keys)
    groups = Dataset._grouped_index.__wrapped__(dataset, keys)
    assert dataset._grouped_index(np.array(keys)) == list(groups)
    for field in ("key", None):
        expected = Dataset.split_by_ratio.__wrapped__(dataset, ratios, field)
        assert dataset.split_by_ratio(ratios, field) == expected


TYPES = (object, np.uint16, np.uint64, np.int64, ">i4")
INDICES = [np.array([4, 0, 0, 2], dtype=kind) for kind in TYPES]
INDICES += [np.array([True, False, True, False, False]), np.arange(5)[::-2], np.array([])]
INDICES += [torch.tensor([1, 1], dtype=torch.uint8), torch.tensor([], dtype=torch.long)]
INDICES += [np.array([-1, 2]), torch.tensor(3), slice(1, 4), [2, 0], 2]


@pytest.mark.parametrize("index", INDICES)
def test_rows_of_an_interaction_are_recboles(index):
    columns = {"a": torch.arange(5), "b": torch.rand(5, 2)}
    expected = Interaction.__getitem__.__wrapped__(Interaction(columns), index)
    result = Interaction(columns)[index]
    assert list(result.columns) == ["a", "b"]
    for name in columns:
        assert torch.equal(result[name], expected[name])


@pytest.mark.parametrize("split", [RS, SG])
def test_ease_scores_the_same_numbers(tiny, split, monkeypatch):
    monkeypatch.setattr(edlae, "READ_AGAIN", 1)
    monkeypatch.setattr(edlae, "COLUMNS", 7)
    _, loaders, network, _ = build("EASE", "tiny", {**tiny, "eval_args": split})
    users = {"user_id": loaders[2]._dataset.inter_feat["user_id"].repeat(3)}
    expected = type(network).full_sort_predict.__wrapped__(network, users)
    assert torch.equal(network.full_sort_predict(users), expected)
    # More than once is not once.
    network.interaction_matrix.data[:] = 2
    assert torch.equal(network.full_sort_predict(users), 2 * expected)


@pytest.mark.parametrize("model", ["MultiVAE", "MultiDAE", "RecVAE"])
@pytest.mark.parametrize("split", [RS, SG])
def test_autoencoders_in_two_parts_score_as_they_do(tiny, model, split):
    settings = {**tiny, "train_neg_sample_args": None, **SIZES[model], "eval_args": split}
    _, loaders, network, _ = build(model, "tiny", settings)
    users = loaders[2]._dataset.inter_feat["user_id"].unique()
    layer = last_layer(network.eval(), sparse=True)
    with torch.no_grad():
        expected = network.full_sort_predict({"user_id": users}).view(len(users), -1)
        scores = layer.score(layer.hidden(users))
    torch.testing.assert_close(scores, expected)
    assert expected.std() > 1e-4
    alone = layer.hidden(users) @ layer.weight.T + layer.bias
    torch.testing.assert_close(alone, scores[:, 1:])
    # Nothing of it is left in the model.
    assert torch.equal(network.full_sort_predict({"user_id": users}).view(len(users), -1), expected)


@pytest.mark.parametrize("name", ["full_sort_predict", "item_scores"])
def test_a_model_that_scores_in_its_own_way_has_no_two_parts(tiny, name):
    network = build("Vamp", "tiny", tiny)[2]
    assert last_layer(network) is not None
    method = getattr(network, name)
    network.__class__ = type("Own", (type(network),), {name: lambda _, x: -method(x)})
    assert last_layer(network) is None


SPEED = """
import subprocess, sys
from collections import Counter
import recbole_evcf
from recbole.data.dataset import dataset
from recbole.data.interaction import Interaction
from recbole_evcf.hooks.speedups import HitCollector

def fast():
    rows, counter = Interaction.__getitem__, dataset.Counter
    return hasattr(rows, "__wrapped__"), counter is not Counter, HitCollector.fast_for_all

print(fast())
if len(sys.argv) == 1:
    recbole_evcf.speed_up_recbole()
    subprocess.run([sys.executable, __file__, "started"])
"""


def test_recboles_own_is_faster_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_EVCF_SPEED_UP", raising=False)
    path = tmp_path / "speed.py"
    path.write_text(SPEED, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == [str((fast,) * 3) for fast in (False, True)]
