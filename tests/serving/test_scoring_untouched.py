"""A recommender's histories are arguments: neither threads nor the trained model notice others."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import build
from recbole_evcf import Recommender
from recbole_evcf.model.fold_in import FOLD_IN_MODELS

SMALL = {
    **build.SIZES,
    "LDiffRec": {**build.SIZES["LDiffRec"], "n_cate": 1},
    "WMF": {"embedding_size": 4},
}
SG = {"split": {"SG": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}


def trained(model, tiny, **changes):
    return build.trained(model, {**tiny, "epochs": 1, **SMALL.get(model, {}), **changes})


@pytest.mark.parametrize("model", ["HVamp", "EASE", "MultiVAE", "WMF", "ADMMSLIM"])
def test_threads_that_share_a_recommender_get_their_own_answers(model, tiny):
    recommender = Recommender.load(trained(model, tiny)[1].saved_model_file)
    rng = np.random.default_rng(1)
    people = [[f"i{n}" for n in rng.integers(40, size=rng.integers(1, 12))] for _ in range(100)]

    def answer(person):
        frame = recommender.recommend([people[person]], k=5)
        return frame["item"].tolist(), frame["score"].tolist()

    alone = [answer(person) for person in range(100)]
    assert len({str(items) for items, _ in alone}) > 15
    requests = rng.integers(100, size=2000 if model != "ADMMSLIM" else 200).tolist()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(answer, requests))
    assert together == [alone[person] for person in requests]


@pytest.mark.parametrize("split", [None, SG], ids=["RS", "SG"])
@pytest.mark.parametrize("model", ["HVamp", "WMF", *FOLD_IN_MODELS])
def test_recommending_leaves_the_trained_model_as_it_is(model, split, tiny):
    changes = {} if split is None else {"eval_args": split}
    loaders, trainer = trained(model, tiny, **changes)
    network = trainer.model
    before = trainer.evaluate(loaders[2], load_best_model=False)
    lists = [["i1", "i2"], [], ["i3"]]
    expected = Recommender(network.eval()).recommend(lists, k=5)
    network.train()
    weights = copy.deepcopy(network.state_dict())
    entries = [(part, key, value) for part in network.modules() for key, value in of(part).items()]
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    recommender = Recommender(network)
    # Without dropout in the midst of training, too.
    found = recommender.recommend(lists, k=5)
    assert found.equals(expected) or model == "Random"
    if model in ("HVamp", "WMF"):
        recommender.latent(lists)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert len(entries) == sum(len(of(part)) for part in network.modules())
    assert all(of(part)[key] is value for part, key, value in entries)
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights[name])
    if model not in ("Random", "DiffRec", "LDiffRec", "ADMMSLIM"):
        assert trainer.evaluate(loaders[2], load_best_model=False) == before


def of(part):
    """Everything that is set on a module: its attributes, parameters, buffers and parts."""
    return {**vars(part), **part._parameters, **part._buffers, **part._modules}
