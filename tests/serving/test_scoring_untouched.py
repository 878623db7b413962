"""A recommender's histories are arguments: neither threads nor the trained model notice others."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import build
from recbole_evcf import Recommender
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.serving.user_histories import data_set_users

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
    assert len({str(items) for items, _ in alone}) > 20
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
    network.train()
    weights = copy.deepcopy(network.state_dict())
    entries = [(part, key, value) for part in network.modules() for key, value in of(part).items()]
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    recommender = Recommender(network)
    recommender.recommend([["i1", "i2"], [], ["i3"]], k=5)
    if model in ("HVamp", "WMF"):
        recommender.latent([["i1", "i2"], ["i3"]])
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


@pytest.mark.parametrize("model", ["HVamp", "MultiVAE"])
def test_a_model_in_the_midst_of_its_training_recommends_without_dropout(model, tiny):
    _, trainer = trained(model, tiny)
    trainer.model.eval()
    expected = Recommender(trainer.model).recommend([["i1", "i2"], []], k=40)
    trainer.model.train()
    found = Recommender(trainer.model).recommend([["i1", "i2"], []], k=40)
    assert found.equals(expected)
    assert trainer.model.training


@pytest.mark.parametrize("model", ["EASE", "MultiVAE", "WMF", "BPR", "CDAE", "HVamp"])
def test_users_of_the_data_set_over_several_batches_one_without_history(model, tiny, monkeypatch):
    """Popularity where a model has no answer to an empty history."""
    _, trainer = trained(model, tiny, embedding_size=4)
    _, network, dataset, train, valid, _ = load_data_and_model(trainer.saved_model_file)
    users = data_set_users(train, valid)
    nobody = 4
    for matrix in (users.histories, users.seen):
        start, stop = matrix.indptr[nobody], matrix.indptr[nobody + 1]
        matrix.data[start:stop] = 0
        matrix.eliminate_zeros()
    # User 4 is the second of a batch, more batches follow.
    monkeypatch.setattr("recbole_evcf.serving.recommender.MAX_USERS", 3)
    frame = Recommender(network).recommend(users, k=40)
    unknown = frame["user"] == users.users[nobody]
    assert (frame["from_prior"] == unknown).all()
    counts = dict(zip(network.item_catalogue.tokens, network.item_catalogue.counts))
    if model in ("EASE", "WMF", "BPR"):
        popular = [counts[item] for item in frame.loc[unknown, "item"]]
        assert frame.loc[unknown, "score"].tolist() == popular == sorted(counts.values())[::-1]
    else:
        assert frame.loc[unknown, "score"].nunique() > 20
    # All others get what the model says of them.
    with torch.no_grad():
        ids = torch.arange(1, dataset.user_num)
        scores = network.eval().full_sort_predict({"user_id": ids}).reshape(len(ids), -1)
    place = {name: number for number, name in enumerate(users.users)}
    others = frame[~unknown]
    columns = dataset.token2id("item_id", others["item"].to_numpy())
    expected = scores[[place[user] for user in others["user"]], columns]
    np.testing.assert_allclose(others["score"], expected, rtol=1e-4, atol=1e-5)
