"""Every model that can fold in scores unseen users, from its file alone, and stays as it is."""

import copy
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from build import RS, SG, SIZES, since_recbole_1_2_1, trained
from recbole_evcf import Recommender, register_model
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import MODELS, Vamp
from recbole_evcf.serving.saved_model import AllocationBound, load_model
from recbole_evcf.trainer.checkpoint import load_checkpoint

SMALL = {
    **SIZES,
    "LDiffRec": {**SIZES["LDiffRec"], "n_cate": 1},
    "WMF": {"embedding_size": 8},
    "Vamp": {"pseudo_inputs_init": "data"},
    "HVamp": {"pseudo_input_size": 5, "sparse_input_gradient": True, "sampled_softmax": 9},
}
OURS = tuple(model.__name__ for model in MODELS)


def saved(model, settings, **changes):
    """Dataloaders and trainer of a model on the tiny data set, and the model's file."""
    settings = {**settings, "epochs": 1, **SMALL.get(model, {}), **changes}
    loaders, trainer = trained(model, settings)
    trainer.model.eval()
    return loaders, trainer, trainer.saved_model_file


@pytest.mark.parametrize("model", [*OURS, *FOLD_IN_MODELS])
def test_a_users_history_gets_the_scores_that_the_user_has(model, tiny):
    loaders, trainer, path = saved(model, tiny)
    network, users = trainer.model, loaders[2].uid_list[:7]
    feat, tokens = loaders[0]._dataset.inter_feat, loaders[0]._dataset.field2id_token["item_id"]
    shown = [tokens[feat["item_id"][feat["user_id"] == user].numpy()].tolist() for user in users]
    # As from nowhere: neither data nor anything else of the training is at hand.
    shutil.rmtree(tiny["data_path"])
    recommender = Recommender.load(path)
    frame = recommender.recommend(shown, k=40, exclude_seen=False)
    assert frame.groupby("user").size().tolist() == [40] * 7
    # In CDAE and FISM a user of the data set has a vector or a bias, which an unseen user has not.
    if model == "CDAE":
        network.h_user.weight.data.zero_()
    # RecBole's models that draw noise are given the same stream.
    torch.manual_seed(0)
    with torch.no_grad():
        expected = network.full_sort_predict({"user_id": users}).reshape(7, -1).float()[:, 1:]
        if model == "FISM":
            expected = expected - network.user_bias[users][:, None]
    found = frame.pivot(index="user", columns="item", values="score")[recommender.item_tokens]
    # ADMMSLIM adds noise of up to 1e-5.
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=2e-5)
    nobody = recommender.recommend([["no such item"], []], k=3)
    assert nobody["from_prior"].all()
    assert nobody["score"].notna().all()


@pytest.mark.parametrize("model", ["HVamp", "EASE", "MultiVAE", "WMF", "ADMMSLIM"])
def test_threads_that_share_a_recommender_get_their_own_answers(model, tiny):
    recommender = Recommender.load(saved(model, tiny)[2])
    rng = np.random.default_rng(1)
    people = [[f"i{n}" for n in rng.integers(40, size=rng.integers(1, 12))] for _ in range(100)]

    def answer(person):
        frame = recommender.recommend([people[person]], k=5)
        return frame["item"].tolist(), frame["score"].tolist()

    alone = list(map(answer, range(100)))
    assert len({str(items) for items, _ in alone}) > 15
    requests = rng.integers(100, size=2000 if model != "ADMMSLIM" else 200).tolist()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(answer, requests))
    assert together == [alone[person] for person in requests]


def of(part):
    """Everything that is set on a module: its attributes, parameters, buffers and parts."""
    return {**vars(part), **part._parameters, **part._buffers, **part._modules}


@pytest.mark.parametrize("split", [RS, SG], ids=["RS", "SG"])
@pytest.mark.parametrize("model", ["HVamp", "WMF", *FOLD_IN_MODELS])
def test_recommending_leaves_the_trained_model_as_it_is(model, split, tiny):
    loaders, trainer, _ = saved(model, tiny, eval_args=split)
    before, network = trainer.evaluate(loaders[2], load_best_model=False), trainer.model
    assert all(0 < value <= 1 for value in before.values())
    lists = [["i1", "i2"], [], ["i3"]]
    expected = Recommender(network).recommend(lists, k=5)
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


@pytest.mark.parametrize("model", ["HVamp", "GatedHVampLinear"])
def test_a_model_is_the_files_without_the_optimizer(model, tiny):
    trainer, path = saved(model, tiny)[1:]
    state, loaded = torch.get_rng_state(), load_model(path)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert "optimizer" in load_checkpoint(path)
    assert "optimizer" not in load_checkpoint(path, without={"optimizer"})


def test_weights_that_the_file_replaces_are_not_drawn():
    for draws in (True, False):
        with AllocationBound({"weight": torch.zeros(9)}, draws=draws):
            weights = torch.zeros(3).normal_(), torch.nn.init.uniform_(torch.zeros(3))
        assert all(weight.any() == draws for weight in weights)


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
        ({"model": "Unknown"}, {}, "class Unknown, which is not known"),
        ({"model": "GatedHVamp"}, {}, "of another model than the G"),
        ({"model": "EASE"}, {}, "of another model than the EASE"),
        ({"model": "BPR"}, {}, "holds a BPR, which has no way to score a user"),
        ({"model": "LDiffRec", "n_cate": 3}, {}, "its n_cate is '3', and would have to be 1"),
        ({"model": "DiffRec", "time-aware": True}, {}, "its time-aware is 'True', and would have"),
        ({"latent_dimension": "x"}, {}, "is corrupt"),
        ([], {}, "class None, which is not known"),
        ({}, {"item_catalogue": CATALOGUE}, "is corrupt"),
        ({}, {"state_dict": {}}, "is corrupt"),
        # Sizes buy no memory.
        ({"n_pseudo_inputs": 10**9}, {}, r"is corrupt.*larger than its weights"),
        ({"model": "MultiVAE", "latent_dimension": 10**10}, {}, r"is corrupt.*larger than its"),
        ({"model": "CDAE", "embedding_size": 10**9}, {}, r"is corrupt.*larger than its weights"),
    ],
)
def test_a_file_of_another_model_or_of_sizes_is_refused(path, config, entries, message):
    refused(changed(path, config, **entries), message)


@since_recbole_1_2_1
def test_neighbours_of_users_need_their_data(tiny):
    message = "its knn_method is 'user', and would have to be item"
    refused(saved("ItemKNN", tiny, knn_method="user")[2], message)


def test_a_number_of_users_needs_no_memory(path):
    assert len(load_model(changed(path, {}, n_users=10**15)).item_catalogue) == 40


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_named(path, device):
    with pytest.raises(ValueError, match=f"^the device {device} cannot be used here: "):
        Recommender.load(path, device=device)


@pytest.mark.parametrize("visible", [None, "5"])
def test_on_a_given_device_the_files_gpu_hides_no_other(path, visible, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    Recommender.load(path, "cpu")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


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
    for read, cause in (
        (lambda dataset: dataset.inter_matrix(), "AttributeError: .* has no .* 'inter_matrix'"),
        (lambda dataset: dataset.num("age"), r"KeyError: age\)"),
    ):
        monkeypatch.setattr(Greedy, "read", staticmethod(read))
        refused(path, rf"its constructor needs the interactions of its data set \({cause}")
    monkeypatch.setattr(Greedy, "read", staticmethod(lambda dataset: copy.copy(dataset).item_num))
    assert load_model(path).n_items == 41
