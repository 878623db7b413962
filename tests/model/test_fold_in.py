"""Under the split by users, models learn from training users and score from a fold-in history."""

import copy

import numpy as np
import pytest
import torch
from recbole.quick_start import load_data_and_model
from recbole.utils import get_model, init_seed

from build import SG, SIZES, build, since_recbole_1_2_1
from recbole_evcf.model.fold_in import FOLD_IN_MODELS, learns_from_samples

SMALL = {**SIZES, "Vamp": {"pseudo_inputs_init": "data", "n_pseudo_inputs": 30}}
# What a model knows beside its parameters and buffers.
LEARNED = ("item_similarity", "w", "item_embeddings", "item_cnt", "item_means")
OURS = ("GatedHVamp", "Vamp", "GatedMultiVAE")


def make_parts(seed=0):
    """Five parts: training users t*, the first two with all items, held-out users v* and w*."""
    rng = np.random.default_rng(seed)
    parts = [[("t0" if item < 18 else "tz", f"i{item}") for item in range(20)], [], [], [], []]
    fixed = np.random.default_rng(1)
    for user in range(1, 25):
        items = fixed.choice(20, size=int(fixed.integers(3, 12)), replace=False)
        parts[0] += [(f"t{user}", f"i{item}") for item in items]
    for place, group in ((1, "v"), (3, "w")):
        for user in range(8):
            items = rng.choice(20, size=10, replace=False)
            n_shown = int(rng.integers(3, 8))
            parts[place] += [(f"{group}{user}", f"i{item}") for item in items[:n_shown]]
            parts[place + 1] += [(f"{group}{user}", f"i{item}") for item in items[n_shown:]]
    return parts


def built(model, settings, **changes):
    settings = {**settings, "epochs": 1, **SMALL.get(model, {}), **changes}
    return build(model, "five", settings)


def trained(*args, **changes):
    """Dataloaders, model and trainer."""
    _, loaders, network, trainer = built(*args, **changes)
    trainer.fit(loaders[0], saved=False)
    return loaders, network, trainer


def scores_of(network, dataset, users):
    """Scores by token: (users, items in the order of their names)."""
    network.eval()
    numbers = torch.tensor([dataset.token2id("user_id", user) for user in users])
    # SLIMElastic's and others' scores are flat; Random draws them, ADMMSLIM draws their noise.
    torch.manual_seed(0)
    scores = network.full_sort_predict({"user_id": numbers}).detach().reshape(len(users), -1)
    items = sorted(dataset.field2token_id["item_id"].keys() - {"[PAD]"})
    return scores[:, [dataset.token2id("item_id", item) for item in items]]


def to_dense(value):
    if hasattr(value, "toarray"):
        return value.toarray()
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def learned(network):
    other = {name: to_dense(getattr(network, name)) for name in LEARNED if hasattr(network, name)}
    return {**other, **{name: to_dense(value) for name, value in network.state_dict().items()}}


@pytest.mark.parametrize("model", ["GatedHVamp", "EASE", "ItemKNN", "MultiVAE"])
def test_changing_the_targets_changes_no_score(five, model):
    parts, changed = make_parts(), make_parts()
    for place in (2, 4):
        users, shown = sorted({user for user, _ in parts[place]}), set(parts[place - 1])
        rest = [[(u, f"i{n}") for n in range(20) if (u, f"i{n}") not in shown] for u in users]
        changed[place] = [pair for pairs in rest for pair in pairs[:2]]
    users = [f"{group}{n}" for group in "tvw" for n in range(8)]
    found, metrics = [], []
    for each in (parts, changed):
        loaders, network, trainer = trained(model, five(each))
        found.append(scores_of(network, loaders[0]._dataset, users))
        metrics.append(trainer.evaluate(loaders[2], load_best_model=False))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert metrics[0] != metrics[1]


@pytest.mark.parametrize("model", ["GatedHVamp", "EASE", "MultiVAE"])
def test_batches_of_any_size_give_the_same_metrics(five, model, monkeypatch):
    loaders, network, trainer = trained(model, five(make_parts()))
    whole = trainer.evaluate(loaders[2], load_best_model=False)
    assert {len(batch[0]) for batch in loaders[2]} == {8}
    monkeypatch.setattr("recbole_evcf.data.dataloader.SCORE_BYTES", 1)
    for eval_batch_size, users in ((1, 1), (63, 3)):
        _, small, _, other = built(
            model, five(make_parts()), eval_batch_size=eval_batch_size, train_batch_size=5
        )
        other.model = network
        assert len(next(iter(small[2]))[0]) == users
        assert other.evaluate(small[2], load_best_model=False) == pytest.approx(whole)


# RecBole's own models


@pytest.mark.parametrize("model", [*FOLD_IN_MODELS, *OURS])
def test_what_is_learned_does_not_depend_on_fold_in_or_targets(five, model):
    found = []
    for seed, more in ((0, 0), (1, 0), (0, 40)):
        parts = make_parts(seed)
        parts[1] += [(f"more{user}", f"i{item}") for user in range(more) for item in range(5)]
        _, network, _ = trained(model, five(parts))
        found.append(learned(network))
    assert found[0].keys() == found[1].keys()
    assert found[0]
    for name, value in found[0].items():
        # Sums over a padded history may round differently where the padding differs.
        tolerance = 1e-6 if learns_from_samples(model) else 0
        np.testing.assert_allclose(value, found[1][name], rtol=0, atol=tolerance, err_msg=name)
        if model in ("EASE", "ADMMSLIM", "ItemKNN", "AsymKNN", "NCEPLRec", "MultiVAE"):
            np.testing.assert_array_equal(value, found[2][name], err_msg=name)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("EASE", {}),
        ("SLIMElastic", {"hide_item": False}),
        ("ItemKNN", {"shrink": 3}),
        pytest.param("AsymKNN", {}, marks=since_recbole_1_2_1),
        pytest.param("AsymKNN", {"beta": 0.5, "q": 2}, marks=since_recbole_1_2_1),
        *((model, {}) for model in ("MultiVAE", "MultiDAE", "RecVAE", "MacridVAE", "CDAE")),
        ("DiffRec", {}),
    ],
)
def test_training_users_get_the_scores_of_the_model_as_recbole_has_it(five, model, changes):
    config, loaders, _, _ = built(model, five(make_parts()), **changes)
    dataset = loaders[0]._dataset
    bare = copy.copy(dataset)
    del bare.input_histories
    networks = []
    for each in (dataset, bare):
        init_seed(3, True)
        networks.append(get_model(model)(config, each))
    # RecBole's history matrix draws random numbers before the weights do.
    networks[1].load_state_dict(networks[0].state_dict())
    users = [f"t{user}" for user in range(25)]
    ours, theirs = (scores_of(network, dataset, users) for network in networks)
    assert ours.abs().amax() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    ids = torch.from_numpy(dataset.token2id("user_id", np.array(users)))
    pairs = {"user_id": ids, "item_id": torch.arange(25) % 20 + 1}
    predictions = []
    for network in networks:
        torch.manual_seed(0)
        predictions.append(network.predict(pairs))
    torch.testing.assert_close(*predictions, rtol=1e-5, atol=1e-6)
    held_out = scores_of(networks[0], dataset, ["v0", "w0"])
    assert not torch.allclose(held_out, scores_of(networks[1], dataset, ["v0", "w0"]))


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        *((model, {}) for model in FOLD_IN_MODELS if model not in ("CDAE", "Random")),
        pytest.param("AsymKNN", {"beta": 0.5, "q": 2}, marks=since_recbole_1_2_1),
        ("ADMMSLIM", {"center_columns": True}),
        *((model, {}) for model in OURS),
    ],
)
def test_who_shows_a_training_users_history_gets_that_users_scores(five, model, changes):
    parts = make_parts()
    twins = {"v1": "t3", "w2": "t7", "w5": "t11"}
    for place in (1, 2, 3, 4):
        parts[place] = [pair for pair in parts[place] if pair[0] not in twins]
    for twin, user in twins.items():
        shown = [(twin, item) for name, item in parts[0] if name == user]
        parts[1 if twin[0] == "v" else 3] += shown
    loaders, network, _ = trained(model, five(parts), **changes)
    dataset = loaders[0]._dataset
    found = [scores_of(network, dataset, users) for users in (list(twins), list(twins.values()))]
    if model == "FISM":
        # A training user has a bias, the same for all items.
        found = [scores - scores.mean(1, keepdim=True) for scores in found]
    # ADMMSLIM adds noise of 1e-5 to every score.
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    if model != "Pop":
        others = scores_of(network, dataset, ["v1", "w2", "w5"])
        assert len({tuple(row.tolist()) for row in others}) == 3


def test_cdae_knows_no_vector_of_a_held_out_user(five):
    _, loaders, network, trainer = built("CDAE", five(make_parts()), epochs=3, reg_weight_1=0.01)
    dataset = loaders[0]._dataset
    trained = [dataset.token2id("user_id", f"t{user}") for user in [*range(25), "z"]]
    held_out = sorted(set(range(dataset.user_num)) - set(trained))
    assert len(held_out) == 17
    before = network.h_user.weight.detach().clone()
    assert (before[held_out] == 0).all()
    trainer.fit(loaders[0], loaders[1], saved=False)
    after = network.h_user.weight.detach()
    assert (after[held_out] == 0).all()
    assert (before[trained] != 0).any(1).all()
    assert (before[trained] != after[trained]).any(1).all()


KNN = {"knn_method": "user"}, "knn_method: user .* set knn_method: item"


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("BPR", {}, "BPR has no way to score a user it was not .*GatedHVamp.*EASE"),
        pytest.param("ItemKNN", *KNN, marks=since_recbole_1_2_1),
        pytest.param("AsymKNN", *KNN, marks=since_recbole_1_2_1),
        ("DiffRec", {"time-aware": True}, "time-aware: True .* set time-aware: False"),
        ("LDiffRec", {"time-aware": True}, "time-aware: True .* set time-aware: False"),
        ("EASE", {"eval_args": {**SG, "mode": "uni10"}}, "ranks all items: mode: full"),
        ("GatedHVamp", {"eval_args": {**SG, "mode": "uni10"}}, "ranks all items: mode: full"),
    ],
)
def test_what_cannot_be_scored_is_refused(tiny, model, changes, message):
    with pytest.raises(ValueError, match=message):
        build(model, "tiny", {**tiny, "eval_args": SG, **SMALL.get(model, {}), **changes})


@pytest.mark.parametrize("name", ["tiny", "five"])
@pytest.mark.parametrize("model", ["EASE", "ItemKNN", "GatedHVamp", "CDAE", "NCEPLRec", "Pop"])
def test_a_saved_model_gives_the_same_scores(tiny, five, model, name):
    settings = {**tiny, "eval_args": SG} if name == "tiny" else five(make_parts())
    _, loaders, network, trainer = build(model, name, {**settings, **SMALL.get(model, {})})
    trainer.fit(loaders[0], loaders[1])
    result = trainer.evaluate(loaders[2])
    config, loaded, _, *again = load_data_and_model(trainer.saved_model_file)
    assert config["model"] == model
    dataset = loaders[0]._dataset
    tokens = dataset.id2token("user_id", np.arange(1, dataset.user_num))
    expected = scores_of(network, dataset, tokens)
    torch.testing.assert_close(scores_of(loaded, again[0]._dataset, tokens), expected)
    trainer.model = loaded
    assert trainer.evaluate(again[2], load_best_model=False) == result
