"""Recommendations to a data set's own users are RecBole's full_sort_topk."""

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_topk

from build import build, trained
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
    _, trainer = trained(model, settings)
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


SMALL = {"hidden_size": 8, "inner_size": 8, "mf_embedding_size": 4, "mlp_embedding_size": 4}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("SASRec", "SASRec ranks items by more than a user's interactions"),
        ("NeuMF", "NeuMF does not score all items at once"),
    ],
)
def test_models_that_cannot_rank_all_items_by_a_user_are_named(model, message, tiny):
    loss = {"train_neg_sample_args": None} if model == "SASRec" else {}
    _, loaders, network, _ = build(model, "tiny", {**tiny, **SMALL, **loss, "epochs": 1})
    with pytest.raises(ValueError, match=message):
        Recommender(network).recommend(data_set_users(loaders[0], loaders[1]), k=3)


def test_a_model_without_a_way_to_score_histories_is_named(tiny):
    _, _, network, _ = build("BPR", "tiny", {**tiny, "embedding_size": 4})
    with pytest.raises(ValueError, match="BPR has no way to score a user from a history: recomm"):
        Recommender(network).recommend([["i1"]], k=3)
