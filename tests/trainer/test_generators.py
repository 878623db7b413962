"""Draws apart from everybody else's: the numbers of a seed, and no generator is seeded by it."""

import pytest
import torch

from build import build
from recbole_evcf.inspection.inspection import inspect_loaded
from recbole_evcf.serving.recommender import scores_of_users
from recbole_evcf.trainer.generators import drawing_apart, generator_states, set_generator_states


def test_draws_are_those_of_the_seed_and_leave_no_trace():
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    with drawing_apart(7):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    with pytest.raises(RuntimeError), drawing_apart(7):
        torch.rand(1).view(5)
    assert torch.equal(torch.rand(4), expected)


def test_each_process_goes_on_on_its_own_gpu_as_the_first_did(monkeypatch):
    first, second = current = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda: current[0].get_state())
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state: current[0].set_state(state))
    states = generator_states(())
    expected = torch.rand(4, generator=first)
    # As earlier versions wrote them.
    of_all = {**states, "cuda": [*states["cuda"], second.get_state()]}
    current.reverse()
    for each in (states, of_all):
        set_generator_states(each, ())
        assert torch.equal(torch.rand(4, generator=second), expected)


@pytest.fixture
def no_seeding(monkeypatch):
    """Nothing may seed all generators: a training on a GPU may be drawing from its own."""

    def seeding(*args):
        raise AssertionError("generators of others were seeded")

    monkeypatch.setattr("build.init_seed", lambda *args: None)
    for name in ("torch.cuda.manual_seed_all", "torch.cuda.manual_seed", "torch.manual_seed"):
        monkeypatch.setattr(name, seeding)


@pytest.mark.usefixtures("no_seeding")
@pytest.mark.parametrize("model", ["BPR", "Vamp"])
def test_the_split_by_its_own_seed_seeds_nobody(tiny, model):
    torch.set_rng_state(torch.Generator().manual_seed(4).get_state())
    settings = {**tiny, "split_seed": 5}
    parts = [build(model, "tiny", settings)[1][0]._dataset.inter_feat for _ in range(2)]
    assert torch.equal(parts[0]["item_id"], parts[1]["item_id"])


@pytest.mark.usefixtures("no_seeding")
def test_scoring_and_inspecting_seed_nobody(tiny):
    config, loaders, model, _ = build("HVamp", "tiny", tiny)
    model.eval()
    assert scores_of_users(model, torch.tensor([1, 2])).shape == (2, 40)
    assert inspect_loaded(config, model, *loaders).tables
