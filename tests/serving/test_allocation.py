"""Sizes in a model file buy no memory."""

import numpy as np
import pytest
import torch
from torch import nn

from build import build
from recbole_evcf.serving.allocation import AllocationBound
from recbole_evcf.serving.saved_model import load_model


def test_tensors_count_together_by_their_size():
    with AllocationBound(1000):
        kept = [torch.ones(10, 20), torch.zeros(20, 10), nn.Linear(10, 30).weight]
        # No tensor is made by these.
        assert float((kept[0] * 2).sum() * 0 + kept[1].reshape(-1)[0]) == 0
        with pytest.raises(ValueError, match="larger than its weights"):
            torch.ones(300)
    assert len(torch.ones(2000)) == 2000


def test_numbers_are_drawn_as_without_it():
    torch.manual_seed(5)
    expected = nn.Linear(7, 3).weight
    torch.manual_seed(5)
    with AllocationBound(1000):
        found = nn.Linear(7, 3).weight
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("Vamp", {"n_pseudo_inputs": 10**9}),
        ("Vamp", {"mlp_hidden_size": [10**5, 10**5]}),
        ("MultiVAE", {"latent_dimension": 10**10}),
        ("CDAE", {"embedding_size": 10**9}),
    ],
)
def test_a_file_that_names_sizes_is_refused_at_once(tiny, model, changes):
    sizes = {"embedding_size": 8} if model == "CDAE" else {}
    _, loaders, _, trainer = build(model, "tiny", {**tiny, "epochs": 1, **sizes})
    trainer.fit(loaders[0], loaders[1])
    state = torch.load(trainer.saved_model_file, weights_only=True)
    state["config"].update(changes)
    torch.save(state, "large.pth")
    with pytest.raises(ValueError, match=r"large\.pth is corrupt"):
        load_model("large.pth")


def test_a_number_of_users_needs_no_memory(tiny):
    _, loaders, _, trainer = build("Vamp", "tiny", {**tiny, "epochs": 1})
    trainer.fit(loaders[0], loaders[1])
    state = torch.load(trainer.saved_model_file, weights_only=True)
    torch.save({**state, "n_users": 10**15}, "many.pth")
    assert np.array_equal(
        load_model("many.pth").item_catalogue.tokens,
        load_model(trainer.saved_model_file).item_catalogue.tokens,
    )
