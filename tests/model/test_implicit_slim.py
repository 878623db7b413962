"""ImplicitSLIM against its formula with dense matrices."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from build import build
from recbole_evcf.data.histories import Histories
from recbole_evcf.model.implicit_slim import refined
from recbole_evcf.model.layers import HistoryLinear, OutputLayer

SPLIT = {"SG": [0.6, 0.2, 0.2]}
SG = {"eval_args": {"split": SPLIT, "order": "RO", "group_by": "user", "mode": "full"}}


def expected(v, x, reg_weight):
    """v (width, items), x (users, items)."""
    gram = x.T @ x
    of_item = np.diag(np.diag(gram) + reg_weight)
    m = (reg_weight * v + v @ gram) @ np.linalg.inv(of_item @ of_item)
    r = reg_weight * m + m @ gram
    s = r - (r @ v.T) @ np.linalg.inv(np.eye(len(v)) + r @ v.T) @ r
    return v @ v.T @ s


@pytest.mark.parametrize("users", [40, 3000])
def test_the_formula(users):
    rng = np.random.default_rng(4)
    # One item has no interactions.
    x = (rng.random((users, 30)) < np.linspace(0, 0.5, 30)).astype(float)
    v = rng.normal(size=(7, 30))
    histories = Histories(csr_matrix(x)).rows(torch.arange(users))
    found = refined(torch.tensor(v.T, dtype=torch.float32), histories, 5.0)
    np.testing.assert_allclose(found.numpy().T, expected(v, x, 5.0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "refinements"),
    [
        ({}, [8, 12, 16]),
        ({"implicit_slim_interval": 2}, [4, 8, 12, 16]),
        ({"total_anneal_steps": 30}, [8]),
        # In single precision 0.7 is less than 0.7.
        ({"total_anneal_steps": 20, "anneal_cap": 0.7}, [8, 12]),
        ({"implicit_slim_interval": 0}, []),
    ],
)
def test_it_comes_in_the_first_epoch_after_each_interval(tiny, given, refinements, monkeypatch):
    settings = {**tiny, **SG, "train_batch_size": 10, "n_pseudo_inputs": 5, "epochs": 7}
    settings |= {"implicit_slim_interval": 5, "total_anneal_steps": 60, "eval_step": 2, **given}
    _, (train, valid, _), model, trainer = build("GatedHVampLinear", "tiny", settings)
    assert len(train) == 4
    steps = []
    original = type(model).refine_item_vectors

    def watched(model, histories):
        steps.append(int(model.warmup.step))
        original(model, histories)

    monkeypatch.setattr(type(model), "refine_item_vectors", watched)
    trainer.fit(train, valid, saved=False)
    assert steps == refinements


def test_every_layer_that_has_item_vectors_is_refined_on_the_training_users(tiny):
    settings = {**tiny, **SG, "n_pseudo_inputs": 5, "implicit_slim_reg_weight": 3.0}
    _, (train, *_), model, _ = build("GatedHVampLinear", "tiny", settings)
    x = train._dataset.inter_matrix().toarray()[:, 1:]
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.refine_item_vectors(Histories.from_dataset(train._dataset))
    changed = set()
    for name, module in model.network.named_modules():
        if isinstance(module, (HistoryLinear, OutputLayer)):
            changed.add(f"{name}.weight")
            vectors, rest = before[f"{name}.weight"].split([40, len(module.weight) - 40])
            new = expected(vectors.double().numpy().T, x, 3.0).T
            np.testing.assert_allclose(module.weight[:40].detach(), new, rtol=1e-2, atol=1e-3)
            assert torch.equal(module.weight[40:], rest)
    # Values and gates of two encoders, and the output.
    assert len(changed) == 5
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in changed), name
