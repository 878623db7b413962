"""Recommendations to new users and to those of the data set, similar items, latent vectors."""

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.utils.case_study import full_sort_topk

from build import RS, SG, build, trained
from conftest import write_inter
from recbole_evcf import Recommender
from recbole_evcf.model.vae import prior_scores
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.serving.user_histories import data_set_users, user_histories

LISTS = [["i3", "i7", "i20"], ["i1"], ["i0", "i2", "i4", "i6", "i39"], ["i11", "i12"]]


def train(model, settings):
    small = {"embedding_size": 4} if model == "WMF" else {}
    settings = {**settings, "epochs": 2, "learning_rate": 0.01, **small}
    return trained(model, settings)[1].saved_model_file


@pytest.fixture
def path(tiny):
    return train("GatedHVamp", tiny)


@pytest.fixture
def recommender(path):
    return Recommender.load(path)


def same(first, second):
    frames = (each.reset_index(drop=True) for each in (first, second))
    pd.testing.assert_frame_equal(*frames, check_exact=False, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["GatedHVamp", "Vamp", "EASE", "MultiVAE", "WMF"])
def test_a_batch_gives_what_single_users_give_in_any_order(model, tiny, monkeypatch):
    recommender = Recommender.load(train(model, tiny))
    together = recommender.recommend(LISTS, k=9)
    for number, history in enumerate(LISTS):
        alone = recommender.recommend([history], k=9)
        of_batch = together[together["user"] == number]
        same(alone.drop(columns="user"), of_batch.drop(columns="user"))
        # Neither order nor duplicates matter.
        again = recommender.recommend([[*reversed(history), *history]], k=9)
        pd.testing.assert_frame_equal(alone, again, check_exact=True)
    monkeypatch.setattr("recbole_evcf.serving.recommender.MAX_USERS", 3)
    same(recommender.recommend(LISTS, k=9), together)
    if model == "GatedHVamp":
        latent = recommender.latent(LISTS)[1]
        np.testing.assert_allclose(latent[3:], recommender.latent(LISTS[3:])[1], rtol=1e-5)


def test_scores_ranks_and_what_is_left_out(recommender):
    seen = LISTS[2]
    everything = recommender.recommend([seen], k=40, exclude_seen=False)
    assert sorted(everything["item"]) == sorted(recommender.item_tokens)
    assert everything["score"].is_monotonic_decreasing
    assert everything["rank"].tolist() == list(range(1, 41))

    def asked(**options):
        return recommender.recommend([seen], k=10, **options)["item"].tolist()

    ranked = everything["item"].tolist()
    unseen = [item for item in ranked if item not in seen]
    assert asked() == unseen[:10]
    assert asked(exclude_seen=False) == ranked[:10]
    allowed = ["i1", "i2", "i3", "i5", "not an item"]
    assert asked(allow=allowed) == [item for item in unseen if item in allowed]
    assert asked(block=ranked[:15]) == [item for item in unseen if item not in ranked[:15]][:10]
    assert recommender.recommend([list(recommender.item_tokens)], k=5).empty
    assert recommender.recommend([], k=5).empty
    # Where fewer than k are left, all are ranked.
    assert recommender.recommend([seen], k=1000)["item"].tolist() == unseen


def test_unknown_items_are_left_out_and_reported(recommender):
    lists = [["i3", "x", "i7"], ["x", "y"], []]
    message = "left out 3 interactions with 2 items that the model does not know: 'x', 'y'"
    with pytest.warns(UserWarning, match=message) as warned:
        frame = recommender.recommend(lists, k=4)
    # It names the line of the user's.
    assert warned[0].filename == __file__
    assert frame.groupby("user")["from_prior"].first().tolist() == [False, True, True]
    same(frame[frame["user"] == 0], recommender.recommend([["i3", "i7"]], k=4))
    best = prior_scores(recommender.model.network).topk(4)
    for user in (1, 2):
        rows = frame[frame["user"] == user]
        assert rows["item"].tolist() == recommender.item_tokens[best.indices].tolist()
        np.testing.assert_allclose(rows["score"], best.values, rtol=1e-6)


ITEM_VECTORS = {
    "GatedHVamp": lambda model: model.network.output.weight,
    "MultiVAE": lambda model: model.decoder[-1].weight[1:],
    "WMF": lambda model: model.item_factors,
}


@pytest.mark.parametrize("model", ITEM_VECTORS)
def test_similar_items(model, tiny):
    recommender = Recommender.load(train(model, tiny))
    frame = recommender.similar_items("i5", k=6)
    vectors = ITEM_VECTORS[model](recommender.model).detach().double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = vectors[recommender.item_tokens.tolist().index("i5")]
    cosine = pd.Series(vectors @ own, index=recommender.item_tokens).drop("i5")
    np.testing.assert_allclose(frame["score"], cosine.nlargest(6), rtol=1e-5)
    np.testing.assert_allclose(frame["score"], cosine[frame["item"]], rtol=1e-5)
    assert len(recommender.similar_items("i5", k=40)) == 39


@pytest.mark.parametrize(("model", "width"), [("GatedHVamp", 16), ("Vamp", 8), ("WMF", 4)])
def test_latent_vectors(model, width, tiny):
    recommender = Recommender.load(train(model, tiny))
    users, z = recommender.latent({"b": LISTS[0], "a": LISTS[1], "c": LISTS[0]})
    assert users.tolist() == ["b", "a", "c"]
    assert z.shape == (3, width)
    np.testing.assert_allclose(z[0], z[2], rtol=1e-6)
    tokens = recommender.item_tokens.tolist()
    best = recommender.recommend([LISTS[0]], k=1).iloc[0]
    x = torch.zeros(1, 40)
    x[0, [tokens.index(item) for item in LISTS[0]]] = 3**-0.5
    with torch.no_grad():
        if model == "WMF":
            vector = recommender.model.item_factors[tokens.index(best["item"])].numpy()
            np.testing.assert_allclose(z[0] @ vector, best["score"], rtol=1e-4)
            return
        network = recommender.model.network
        z2 = (network.encoder if model == "Vamp" else network.encoder_z2)(x).mean
        upper = () if model == "Vamp" else (network.encoder_z1(x, z2).mean,)
    np.testing.assert_allclose(z[:1], torch.cat([*upper, z2], 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["GatedHVamp", "MultiVAE"])
def test_ranking_in_two_stages_gives_the_same(model, tiny, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    rows = [(f"u{n % 50}", f"i{n}", 1) for n in range(4500)]
    write_inter(tmp_path / "data", "tiny", rows)
    recommender = Recommender.load(train(model, tiny))
    lists = [[f"i{n}" for n in rng.integers(4600, size=rng.integers(9))] for _ in range(300)]
    given = user_histories(lists, recommender.catalogue, recommender.field_names)
    blocked = recommender.recommend(lists, k=1)["item"].unique()
    frames = {}
    for fast in (False, True):
        monkeypatch.setattr(
            "recbole_evcf.serving.recommender.gains", lambda weight, fast=fast: fast
        )
        frames[fast] = pd.concat(
            frame
            for block in ((), blocked)
            for frame in recommender.recommend_in_batches(given, 7, block=block)
        )
        # The second time nobody's scores are made.
        monkeypatch.delattr("recbole_evcf.serving.recommender.scores_of_users", raising=False)
    pd.testing.assert_frame_equal(frames[True], frames[False], check_exact=True)
    assert 0 < frames[True]["from_prior"].sum() < len(frames[True]) == 2 * 300 * 7
    assert not frames[True]["item"].iloc[300 * 7 :].isin(blocked).any()


def test_loading_uses_up_no_random_numbers(path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Recommender.load(path).recommend(LISTS, k=5)
    assert torch.equal(torch.rand(2), expected)


# Other histories that are refused: test_user_histories.py.
WRONG = [
    (lambda r: r.recommend(LISTS, k=0), "k must be a whole number"),
    (lambda r: r.recommend("i1"), "lists of item tokens, one for each user"),
    (lambda r: r.recommend(7), "lists of item tokens, one for each user"),
    (lambda r: r.recommend(pd.DataFrame({"user": [1]})), "must be named item_id or item"),
    (lambda r: r.recommend(LISTS, allow=["x"]), "leave none"),
    (lambda r: r.recommend(LISTS, allow="i1"), "list of item tokens is asked for"),
    (lambda r: r.similar_items("x"), "does not know the item 'x'"),
    (lambda r: r.similar_items(3.5), "3.5 is not an item token"),
    (lambda r: r.recommend(LISTS, block=["i1", None]), "None is not an item token"),
]


def test_wrong_arguments_are_named(recommender, tiny):
    for call, message in WRONG:
        with pytest.raises(ValueError, match=message):
            call(recommender)
    ease = Recommender.load(train("EASE", tiny))
    for call, message in ((ease.similar_items, "decoder"), (ease.latent, "latent vectors")):
        with pytest.raises(ValueError, match=f"EASE has no {message}"):
            call("i1" if message == "decoder" else LISTS)
    for value in (torch.nan, torch.inf):
        recommender.model.network.output.bias.data[3] = value
        with pytest.raises(ValueError, match="not numbers"):
            recommender.recommend(LISTS, k=3)


def test_numbers_stand_for_tokens_of_digits_everywhere(tiny, tmp_path):
    pairs = [(f"u{user}", (user * 7 + step) % 30, 1) for user in range(40) for step in range(8)]
    write_inter(tmp_path / "data", "tiny", pairs)
    recommender = Recommender.load(train("GatedHVamp", tiny))
    expected = recommender.recommend([["3", "17"]], k=5, allow=["4", "5", "6"], block=["6"])
    assert set(expected["item"]) == {"4", "5"}
    assert not expected["from_prior"].any()
    for number in (int, np.float32, torch.tensor):
        lists, allow = [[number(3), number(17)]], {number(4), number(5), number(6)}
        same(recommender.recommend(lists, k=5, allow=allow, block=(number(6),)), expected)
        same(recommender.similar_items(number(3)), recommender.similar_items("3"))
    frame = pd.DataFrame({"user": [0, 0], "item": [3.0, 17.0]})
    same(recommender.recommend(frame, k=5, allow=np.array([4, 5])), expected)


# Users of the data set.


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


@pytest.mark.parametrize("model", ["EASE", "MultiVAE", "WMF", "BPR", "CDAE", "HVamp"])
def test_a_user_without_history_gets_the_prior_and_changes_no_other(model, tiny, monkeypatch):
    """Popularity where a model has no answer to an empty history."""
    loaders, trainer = trained(model, {**tiny, "embedding_size": 4, "reg_weight": 5.0})
    network, (train, valid, _) = trainer.model, loaders
    users = data_set_users(train, valid)
    # User 4 is the second of a batch, more batches follow.
    monkeypatch.setattr("recbole_evcf.serving.recommender.MAX_USERS", 3)
    before = Recommender(network).recommend(users, k=40)
    users.histories[4] = users.seen[4] = 0
    for matrix in (users.histories, users.seen):
        matrix.eliminate_zeros()
    after = Recommender(network).recommend(users, k=40)
    unknown = after["user"] == users.users[4]
    assert (after["from_prior"] == unknown).all()
    same(after[~unknown], before[before["user"] != users.users[4]])
    counts = pd.Series(network.item_catalogue.counts, index=network.item_catalogue.tokens)
    nobody = after[unknown]
    if model in ("EASE", "WMF", "BPR"):
        assert nobody["score"].tolist() == counts[nobody["item"]].tolist()
        assert nobody["score"].tolist() == sorted(counts)[::-1]
    else:
        assert nobody["score"].nunique() > 20


SMALL = {"hidden_size": 8, "inner_size": 8, "mf_embedding_size": 4, "mlp_embedding_size": 4}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("SASRec", "ranks items by more than a user's interactions"),
        ("NeuMF", "cannot rank: it does not score all items at once"),
        ("BPR", "has no way to score a user from a history: recommend to the users of its data"),
    ],
)
def test_models_that_cannot_are_named(model, message, tiny):
    loss = {"train_neg_sample_args": None} if model == "SASRec" else {}
    _, loaders, network, _ = build(model, "tiny", {**tiny, **SMALL, **loss, "embedding_size": 4})
    given = [["i1"]] if model == "BPR" else data_set_users(*loaders[:2])
    with pytest.raises(ValueError, match=f"{model} {message}"):
        Recommender(network).recommend(given, k=3)
