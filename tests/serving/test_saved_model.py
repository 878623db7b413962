"""Every model that can fold in scores an unseen user from its file alone."""

import copy
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_topk
from torch import nn

from build import SIZES, build, since_recbole_1_2_1
from conftest import write_inter
from recbole_evcf import Recommender, register_model
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import Vamp
from recbole_evcf.serving.allocation import AllocationBound
from recbole_evcf.serving.saved_model import load_model

SMALL = {
    **SIZES,
    "LDiffRec": {**SIZES["LDiffRec"], "n_cate": 1},
    "WMF": {"embedding_size": 8},
    "Vamp": {"pseudo_inputs_init": "data"},
}
OURS = ("Vamp", "HVamp", "GatedMultiVAE", "GatedVamp", "GatedHVamp", "WMF")
# A user of the data set has a vector of its own in CDAE, and a bias in FISM, which an unseen user
# has not; the others' scores depend on the history alone.
OWN_VECTOR = ("CDAE",)


def saved(model, settings, **changes):
    """Test dataloader, trained network and file of a model on the tiny data set."""
    settings = {**settings, "epochs": 1, **SMALL.get(model, {}), **changes}
    _, loaders, network, trainer = build(model, "tiny", settings)
    trainer.fit(loaders[0], loaders[1])
    network.eval()
    return loaders, network, trainer.saved_model_file


def histories_of(dataset, users):
    """Training histories of some user ids by item token."""
    feat, tokens = dataset.inter_feat, dataset.field2id_token["item_id"]
    pairs = list(zip(feat["user_id"].tolist(), feat["item_id"].tolist()))
    return [[tokens[item] for owner, item in pairs if owner == user] for user in users]


@pytest.mark.parametrize("model", [*OURS, *FOLD_IN_MODELS])
def test_a_users_history_gets_the_scores_that_the_user_has(model, tiny):
    loaders, network, path = saved(model, tiny)
    users = loaders[2].uid_list[:7].numpy()
    shown = histories_of(loaders[0]._dataset, users)
    # As from nowhere: neither data nor anything else of the training is at hand.
    shutil.rmtree(tiny["data_path"])
    recommender = Recommender.load(path)
    frame = recommender.recommend(shown, k=40, exclude_seen=False)
    assert frame.groupby("user").size().tolist() == [40] * 7
    # RecBole's models that draw noise are given the same stream.
    torch.manual_seed(0)
    with torch.no_grad():
        scores = network.full_sort_predict({"user_id": torch.as_tensor(users)}).reshape(7, -1)
    if model in OWN_VECTOR:
        network.h_user.weight.data.zero_()
        scores = network.full_sort_predict({"user_id": torch.as_tensor(users)}).reshape(7, -1)
    expected = scores.detach().float()[:, 1:].numpy()
    column = {token: place for place, token in enumerate(recommender.item_tokens)}
    found = np.empty((7, 40), dtype=np.float32)
    found[frame["user"], frame["item"].map(column)] = frame["score"]
    if model == "FISM":
        expected = expected - network.user_bias.detach()[users].numpy()[:, None]
    # ADMMSLIM adds noise of up to 1e-5.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
    nobody = recommender.recommend([["no such item"], []], k=3)
    assert nobody["from_prior"].all()
    assert nobody["score"].notna().all()


def test_items_are_those_of_training_users(tiny, tmp_path):
    """The split by users drops items that no training user has, and numbers the others anew."""
    rng = np.random.default_rng(3)
    rows = [(f"u{user}", f"i{item}", 1) for user in range(30) for item in rng.permutation(20)[:9]]
    rows += [(f"u{user}", f"of u{user}", 1) for user in range(30)]
    write_inter(tmp_path / "data", "tiny", rows)
    split = {"split": {"SG": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    loaders, network, path = saved("GatedHVamp", {**tiny, "eval_args": split})
    recommender = Recommender.load(path)
    dataset = loaders[0]._dataset
    trained = dataset.id2token("user_id", dataset.inter_feat["user_id"].unique().numpy())
    counts = Counter(item for user, item, _ in rows if user in set(trained))
    assert dict(zip(recommender.item_tokens, recommender.catalogue.counts)) == counts
    assert len(counts) == 20 + 18
    user = loaders[2].uid_list[:1]
    fold_in = loaders[2]._dataset.fold_in.rows(user).column + 1
    frame = recommender.recommend([dataset.id2token("item_id", fold_in.numpy())], k=3)
    _, best = full_sort_topk(user.numpy(), network, loaders[2], 3)
    assert frame["item"].tolist() == dataset.id2token("item_id", best[0].numpy()).tolist()


# What is no model file, or none that can be used


@pytest.fixture
def path(tiny):
    return saved("Vamp", tiny)[2]


def changed(path, config=None, **entries):
    state = torch.load(path, weights_only=True)
    state["config"] = {**state["config"], **config} if isinstance(config, dict) else config
    torch.save({**state, **entries}, "changed.pth")
    return "changed.pth"


def refused(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert os.path.basename(path) in str(caught.value)


def test_no_file_no_model_and_half_a_model(path, tmp_path):
    refused("nowhere.pth", "There is no model file")
    whole = Path(path).read_bytes()
    for content in (b"", b"user,item\n1,2\n", whole[: len(whole) // 2], whole[:-9], b"\x80\x02N."):
        Path("bad.pth").write_bytes(content)
        refused("bad.pth", "not a model file|holds no model")
    refused(str(tmp_path), "not a model file")
    torch.save({"a": 1}, "other.pth")
    refused("other.pth", "holds no model")


CATALOGUE = {"tokens": '["a", "a"]', "counts": torch.ones(2)}


@pytest.mark.parametrize(
    ("config", "entries", "message"),
    [
        ({"model": "Nobodys"}, {}, "class Nobodys, which is not known"),
        ({"model": "GatedHVamp"}, {}, "of another model than the G"),
        ({"model": "EASE"}, {}, "of another model than the EASE"),
        ({"model": "BPR"}, {}, "holds a BPR, which has no way to score a user"),
        ({"model": "LDiffRec", "n_cate": 3}, {}, "n_cate above 1"),
        ({"latent_dimension": 9}, {}, "is corrupt"),
        ({"latent_dimension": "x"}, {}, "is corrupt"),
        ([], {}, "its config names none"),
        ({}, {"item_catalogue": CATALOGUE}, "is corrupt"),
        ({}, {"state_dict": {}}, "is corrupt"),
        # Sizes buy no memory.
        ({"n_pseudo_inputs": 10**9}, {}, r"is corrupt.*larger than its weights"),
        ({"mlp_hidden_size": [10**5, 10**5]}, {}, r"is corrupt.*larger than its weights"),
        ({"model": "MultiVAE", "latent_dimension": 10**10}, {}, r"is corrupt.*larger than its"),
        ({"model": "CDAE", "embedding_size": 10**9}, {}, r"is corrupt.*larger than its weights"),
    ],
)
def test_a_file_of_another_model_or_of_sizes_is_refused(path, config, entries, message):
    refused(changed(path, config, **entries), message)


def test_a_file_without_item_tokens(path):
    state = torch.load(path, weights_only=True)
    del state["item_catalogue"]
    torch.save(state, "old.pth")
    refused("old.pth", "holds no item tokens: an earlier version")


@since_recbole_1_2_1
def test_neighbours_of_users_need_their_data(tiny):
    refused(saved("ItemKNN", tiny, knn_method="user")[2], "knn_method: user")


def test_tensors_count_together_by_their_size():
    torch.manual_seed(5)
    expected = nn.Linear(7, 3).weight
    torch.manual_seed(5)
    with AllocationBound(1000):
        assert torch.equal(nn.Linear(7, 3).weight, expected)
        kept = [torch.ones(10, 20), torch.zeros(20, 10), nn.Linear(10, 30).weight]
        # No tensor is made by these.
        assert float((kept[0] * 2).sum() * 0 + kept[1].reshape(-1)[0]) == 0
        with pytest.raises(ValueError, match="larger than its weights"):
            torch.ones(300)
    assert len(torch.ones(2000)) == 2000


# The truth about a good file


def test_a_number_of_users_needs_no_memory(path):
    tokens = load_model(changed(path, {}, n_users=10**15)).item_catalogue.tokens
    assert np.array_equal(tokens, load_model(path).item_catalogue.tokens)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_named(path, device):
    with pytest.raises(ValueError, match=f"^the device {device} cannot be used here: "):
        Recommender.load(path, device=device)


class Greedy(Vamp):
    """Its constructor reads more of its data set than a file has, once ``read`` says so."""

    read = None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if Greedy.read is not None:
            Greedy.read(dataset)


def test_a_constructor_that_reads_more_of_its_data_set_is_named(tiny, monkeypatch):
    register_model(Greedy)
    path = saved("Greedy", tiny)[2]

    def reads(read):
        monkeypatch.setattr(Greedy, "read", staticmethod(read))

    for what in ("inter_matrix", "user_feat"):
        reads(lambda dataset, what=what: getattr(dataset, what))
        refused(
            path,
            f"holds a Greedy, whose constructor reads {what} of its data set, which is not at "
            "hand: load it with recbole_evcf.quick_start.load_data_and_model, or make the",
        )
    reads(lambda dataset: dataset.inter_feat["user_id"].max())
    refused(path, r"or its constructor needs the interactions of its data set \(RuntimeError: max")
    reads(lambda dataset: dataset.num("age"))
    refused(path, r"or its constructor needs the interactions of its data set \(KeyError: age\)")
    reads(lambda dataset: copy.copy(dataset).item_num)
    assert load_model(path).n_items == 41
