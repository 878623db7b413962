"""Recommendations to a data set's own users are RecBole's full_sort_topk."""

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_topk

from build import build
from recbole_evcf import Recommender
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.serving.user_histories import data_set_users

SG = {"split": {"SG": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
RS = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}


@pytest.mark.parametrize("split", [RS, SG], ids=["RS", "SG"])
@pytest.mark.parametrize("model", ["GatedHVamp", "EASE", "MultiVAE", "CDAE", "BPR"])
def test_they_equal_full_sort_topk(model, split, tiny):
    if model == "BPR" and split is SG:
        pytest.skip("BPR knows no unseen users")
    settings = {**tiny, "eval_args": split, "embedding_size": 8, "reg_weight": 5.0, "epochs": 1}
    _, loaders, _, trainer = build(model, "tiny", settings)
    trainer.fit(loaders[0], loaders[1])
    _, network, dataset, train, valid, test = load_data_and_model(trainer.saved_model_file)
    frame = Recommender(network).recommend(data_set_users(train, valid), k=6)
    assert sorted(frame["user"].unique()) == sorted(dataset.field2id_token["user_id"][1:])
    users = test.uid_list.numpy()
    assert len(users) >= 10
    with torch.no_grad():
        values, columns = full_sort_topk(users, network, test, 6)
    for user, scores, items in zip(users, values, columns):
        found = frame[frame["user"] == dataset.id2token("user_id", user)]
        assert found["item"].tolist() == dataset.id2token("item_id", items.numpy()).tolist()
        np.testing.assert_allclose(found["score"], scores.numpy(), rtol=1e-4, atol=1e-6)


def test_a_sequential_model_is_named(tiny):
    settings = {**tiny, "epochs": 1, "train_neg_sample_args": None, "load_col": tiny["load_col"]}
    network = build("SASRec", "tiny", {**settings, "hidden_size": 8, "inner_size": 8})[2]
    with pytest.raises(ValueError, match="SASRec ranks items by more than a user's interactions"):
        Recommender(network)


def test_a_model_without_full_ranking_is_named(tiny):
    settings = {**tiny, "epochs": 1, "mf_embedding_size": 4, "mlp_embedding_size": 4}
    _, loaders, network, _ = build("NeuMF", "tiny", settings)
    with pytest.raises(ValueError, match="NeuMF does not score all items at once"):
        Recommender(network).recommend(data_set_users(loaders[0], loaders[1]), k=3)
