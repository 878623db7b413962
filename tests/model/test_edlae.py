"""EDLAE: the closed form, in single precision and one matrix, and what it cannot hold."""

import re

import numpy as np
import psutil
import pytest
import torch
from scipy.sparse import csr_matrix

from build import build
from recbole_evcf.data.histories import Histories
from recbole_evcf.model import edlae
from recbole_evcf.model.edlae import EDLAE, item_weights

SPLIT = {"SG": [0.6, 0.2, 0.2]}
SG = {"eval_args": {"split": SPLIT, "order": "RO", "group_by": "user", "mode": "full"}}
OWN = {"reg_weight": 2.0, "dropout_prob": 0.3, "max_diagonal": 0.2}
# Fewer users than items: without regularization, no inverse.
RARE = {"user_inter_num_interval": "[15,inf)"}


@pytest.fixture
def many():
    """Histories of 200 users over 70 items, in blocks that do not divide them evenly."""
    dense = np.random.default_rng(3).random((200, 70)) < np.linspace(0.02, 0.6, 70)
    return dense, Histories(csr_matrix(dense))


def gpu_with(free, monkeypatch):
    """Pretend a GPU with so much free memory, which the processor stands in for; a list that will
    hold it as often as it inverts."""
    seen, by_torch = [], edlae._invert_by_torch

    def invert(matrix, device):
        seen.append(device)
        return by_torch(matrix, torch.device("cpu"))

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    monkeypatch.setattr(edlae, "_invert_by_torch", invert)
    return seen


@pytest.mark.parametrize(("block", "free"), [(512, 0), (16, 0), (512, 1e9)])
@pytest.mark.parametrize(("p", "exponent"), [(0.0, 0.0), (0.3, 0.0), (0.9, 0.5), (0.3, 1.0)])
def test_weights_minimise_the_expected_error_under_dropout(
    many, monkeypatch, block, free, p, exponent
):
    monkeypatch.setattr(edlae, "BLOCK", block)
    by_gpu = gpu_with(free, monkeypatch)
    dense, histories = many
    weights = item_weights(histories, 2.0, p, exponent, device=torch.device("cuda"))
    weights = weights.double().numpy()
    assert by_gpu == [torch.device("cuda")] * (free > 0)
    assert (np.diag(weights) == 0).all()
    # Steck 2020: ||V^(1/2) (X - XB)||^2 + ||D^(1/2) B||^2 with diag B = 0 and
    # D = lambda I + p/(1-p) diag(X'VX): its gradient X'V(XB - X) + D B vanishes off the diagonal.
    lengths = dense.sum(1)
    of_user = lengths ** -float(exponent)
    of_user *= lengths.sum() / (of_user @ lengths)
    gram = dense.T.astype(float) @ (of_user[:, None] * dense)
    penalty = np.diag(2.0 + p / (1 - p) * np.diag(gram))
    gradient = gram @ weights - gram + penalty @ weights
    np.fill_diagonal(gradient, 0)
    assert abs(gradient).max() < 1e-4 * abs(gram).max()


@pytest.mark.parametrize(("bound", "place"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_an_item_reconstructs_itself_at_most_so_far(many, bound, place):
    dense, histories = many
    gram = dense.T.astype(float) @ dense
    penalised = gram + np.diag(2.0 + 0.3 / 0.7 * np.diag(gram))
    # Each column by itself: without a bound, and where that breaks the bound, with B_jj at it.
    expected, at_bound = np.linalg.solve(penalised, gram), []
    for j in range(len(gram)):
        if expected[j, j] > bound:
            others = np.arange(len(gram)) != j
            right = gram[others, j] - bound * gram[others, j]
            expected[others, j] = np.linalg.solve(penalised[np.ix_(others, others)], right)
            at_bound.append(j)
    np.fill_diagonal(expected, 0)
    weights = item_weights(histories, 2.0, 0.3, 0.0, bound).double().numpy()
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    assert (len(at_bound) == 70, 0 < len(at_bound) < 70, not at_bound)[place]


def test_without_dropout_it_is_ease(tiny):
    ours = build("EDLAE", "tiny", {**tiny, "reg_weight": 5.0, "dropout_prob": 0.0})[2]
    recboles = build("EASE", "tiny", {**tiny, "reg_weight": 5.0})[2]
    expected = torch.from_numpy(np.asarray(recboles.item_similarity))[1:, 1:]
    torch.testing.assert_close(ours.item_weights.data, expected.float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("used", [0, 3, 12, 30])
def test_items_without_interactions_change_nothing_and_have_no_weights(used):
    rng = np.random.default_rng(2)
    places = np.sort(rng.permutation(30)[:used])
    matrix = (rng.random((50, used)) < 0.3).astype(np.float32)
    wide = np.zeros((50, 30), np.float32)
    wide[:, places] = matrix
    weights = item_weights(Histories(csr_matrix(wide)), 20.0, 0.3).numpy()
    gram = (matrix.T @ matrix).astype(np.float64)
    inverse = np.linalg.inv(gram + np.diag(20 + np.diag(gram) * 0.3 / 0.7))
    expected = np.zeros((30, 30))
    expected[np.ix_(places, places)] = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize("split", [{}, SG])
def test_scores_are_sums_over_the_input_history(tiny, split):
    _, (train, *_), model, _ = build("EDLAE", "tiny", {**tiny, **OWN, **split})
    users = torch.tensor([3, 1, 7, 44])
    scores = model.full_sort_predict({"user_id": users})
    histories = Histories.input_of(train._dataset).rows(users).dense()
    assert (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(scores[:, 1:], histories @ model.item_weights)
    pairs = {"user_id": torch.tensor([7, 3, 7]), "item_id": torch.tensor([1, 5, 40])}
    expected = torch.stack([scores[2, 1], scores[0, 5], scores[2, 40]])
    torch.testing.assert_close(model.predict(pairs), expected)


def test_training_sees_no_held_out_user(tiny):
    config, (train, valid, _), model, _ = build("EDLAE", "tiny", {**tiny, **OWN, **SG})
    dataset = train._dataset
    dense = dataset.input_histories.matrix().toarray()
    dense[valid.uid_list] = 1 - dense[valid.uid_list]
    dataset.input_histories = Histories(csr_matrix(dense))
    assert torch.equal(EDLAE(config, dataset).item_weights, model.item_weights)


def test_too_little_memory(tiny, monkeypatch):
    free = type("Memory", (), {"available": 1000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(
        ValueError, match=r"^the item weights of 40 items take 0\.0 GB, and 0\.0 GB"
    ):
        build("EDLAE", "tiny", {**tiny, **OWN})


def test_weights_are_not_read_again_to_be_tested(tiny, monkeypatch):
    _, loaders, _, trainer = build("EDLAE", "tiny", {**tiny, **OWN})
    trainer.fit(*loaders[:2])
    expected = trainer.evaluate(loaders[2], model_file=trainer.saved_model_file)
    monkeypatch.delattr(torch, "load")
    assert trainer.evaluate(loaders[2]) == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "reg_weight",
            0,
            "the items' Gram matrix cannot be inverted: raise reg_weight (linear_reg_weight in "
            "GatedHVampLinear).",
        ),
        (
            "reg_weight",
            -1,
            "reg_weight must be a number of at least 0 and at most 1000000000000, not -1.",
        ),
        ("dropout_prob", 1.0, "dropout_prob must be a number of at least 0 and below 1, not 1.0."),
        (
            "user_exponent",
            11,
            "user_exponent must be a number of at least 0 and at most 10, not 11.",
        ),
        (
            "max_diagonal",
            1.5,
            "max_diagonal must be a number of at least 0 and at most 1, not 1.5.",
        ),
    ],
)
def test_bad_settings(tiny, key, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build("EDLAE", "tiny", {**tiny, **OWN, "dropout_prob": 0, **RARE, key: value})
