"""WMF: implicit's ALS on the training users, one step of it for every user that is scored."""

import re
import sys

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.trainer import TraditionalTrainer

from build import build
from recbole_evcf.data.histories import Histories
from recbole_evcf.model.wmf import WMF, fold_in

als = pytest.importorskip("implicit.cpu.als")

SPLIT = {"SG": [0.6, 0.2, 0.2]}
SG = {"eval_args": {"split": SPLIT, "order": "RO", "group_by": "user", "mode": "full"}}


@pytest.fixture
def settings(tiny):
    own = {"embedding_size": 6, "reg_weight": 0.5, "alpha": 3.0, "als_iterations": 4}
    return {**tiny, **own}


def test_a_user_vector_is_that_of_implicit(settings):
    _, (train, *_), model, _ = build("WMF", "tiny", {**settings, **SG})
    histories = train._dataset.input_histories
    users = torch.arange(histories.shape[0])
    reference = als.AlternatingLeastSquares(6, regularization=0.5, alpha=4.0)
    reference.item_factors = model.item_factors.numpy()
    expected = reference.recalculate_user(users.numpy(), histories.matrix())
    assert expected.any()
    np.testing.assert_allclose(model.user_vectors(users).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_item_factors_are_those_of_implicit(settings):
    config, (train, *_), model, _ = build("WMF", "tiny", settings)
    matrix = Histories.from_dataset(train._dataset).matrix()
    assert matrix[0].nnz == 0
    reference = als.AlternatingLeastSquares(
        6, regularization=0.5, alpha=4.0, iterations=4, random_state=config["seed"]
    )
    reference.fit(matrix[1:], show_progress=False)
    np.testing.assert_allclose(model.item_factors.numpy(), reference.item_factors, rtol=1e-3)


def test_fold_in_minimises_the_objective(histories, dense, double):
    items = torch.randn(dense.shape[1], 4)
    users = torch.tensor([5, 3, 1, 8])
    vectors = fold_in(items, histories, users, 7.0, 0.3).requires_grad_()
    rows = torch.from_numpy(dense[users.numpy()]).double()
    errors = (1 + 7 * rows) * (rows - vectors @ items.T) ** 2
    loss = errors.sum() + 0.3 * vectors.square().sum()
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert gradient.abs().max() < 1e-11
    assert (vectors[1] == 0).all()


def test_many_users_of_all_lengths(double):
    dense = np.random.default_rng(3).random((100, 30)) < np.linspace(0, 1, 100)[:, None]
    histories = Histories(dense)
    items = torch.randn(30, 5)
    order = torch.randperm(100)
    together = fold_in(items, histories, order, 2.0, 0.1)
    alone = [fold_in(items, histories, user[None], 2.0, 0.1)[0] for user in order]
    torch.testing.assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("split", [{}, SG])
def test_scores(settings, split):
    _, (train, *_), model, _ = build("WMF", "tiny", {**settings, **split})
    n_items = train._dataset.item_num
    users = torch.tensor([3, 1, 7])
    scores = model.full_sort_predict(Interaction({"user_id": users}))
    assert scores.shape == (3, n_items)
    assert (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(scores[:, 1:], model.user_vectors(users) @ model.item_factors.T)
    pairs = {"user_id": torch.tensor([7, 3, 7]), "item_id": torch.tensor([1, 5, n_items - 1])}
    expected = torch.stack([scores[2, 1], scores[0, 5], scores[2, -1]])
    torch.testing.assert_close(model.predict(Interaction(pairs)), expected)


def test_training_sees_no_held_out_user(settings):
    config, (train, valid, test), model, _ = build("WMF", "tiny", {**settings, **SG})
    dataset = train._dataset
    held_out = torch.cat([valid.uid_list, test.uid_list])
    feat = dataset.inter_feat
    assert not torch.isin(feat["user_id"], held_out).any()
    # Give them all another history.
    dense = dataset.input_histories.matrix().toarray()
    dense[held_out] = 1 - dense[held_out]
    dataset.input_histories = Histories(dense)
    changed = WMF(config, dataset)
    assert torch.equal(changed.item_factors, model.item_factors)
    trained = feat["user_id"].unique()
    assert torch.equal(changed.user_vectors(trained), model.user_vectors(trained))
    assert not torch.equal(changed.user_vectors(held_out), model.user_vectors(held_out))


def test_the_seed_decides(settings):
    config, (train, *_), model, _ = build("WMF", "tiny", settings)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        assert torch.equal(WMF(config, train._dataset).item_factors, model.item_factors)
    finally:
        torch.set_num_threads(threads)
    config["seed"] += 1
    assert not torch.equal(WMF(config, train._dataset).item_factors, model.item_factors)


@pytest.mark.parametrize("split", [{}, SG])
def test_fit_evaluate_and_load(settings, split):
    settings = {**settings, **split, "weight_decay": 0.1}
    config, (train, valid, test), model, trainer = build("WMF", "tiny", settings)
    assert isinstance(trainer, TraditionalTrainer)
    before = model.item_factors.clone()
    trainer.fit(train, valid, show_progress=False)
    assert torch.equal(model.item_factors, before)
    result = trainer.evaluate(test, load_best_model=True, show_progress=False)
    assert 0 < result["ndcg@10"] <= 1
    config["seed"] += 1
    other = WMF(config, train._dataset)
    state = torch.load(trainer.saved_model_file, weights_only=True)
    other.load_state_dict(state["state_dict"])
    assert torch.equal(other.item_factors, before)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("embedding_size", 0, "embedding_size must be a whole number of at least 1, not 0."),
        ("embedding_size", True, "embedding_size must be a whole number of at least 1, not True."),
        ("als_iterations", 1.5, "als_iterations must be a whole number of at least 1, not 1.5."),
        ("reg_weight", -1, "reg_weight must be a number of at least 0, not -1."),
        ("alpha", None, "alpha must be a number above 0, not None."),
        (
            "alpha",
            1e38,
            "WMF's ALS ran out of the range of numbers with reg_weight 0.5 and alpha 1e+38.",
        ),
    ],
)
def test_bad_settings(settings, key, value, message):
    config, (train, *_), _, _ = build("WMF", "tiny", settings)
    config[key] = value
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        WMF(config, train._dataset)


def test_no_regularization(settings):
    _, _, model, _ = build("WMF", "tiny", {**settings, "reg_weight": 0})
    assert model.user_vectors(torch.arange(9)).isfinite().all()
    message = "^reg_weight 0 leaves user vectors of embedding_size 60 undetermined by 40 items: "
    with pytest.raises(ValueError, match=message):
        build("WMF", "tiny", {**settings, "reg_weight": 0, "embedding_size": 60})


def test_implicit_is_missing(settings, monkeypatch):
    config, (train, *_), _, _ = build("WMF", "tiny", settings)
    for name in [name for name in sys.modules if name.startswith("implicit.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(ValueError, match=r"pip install implicit \(the extra"):
        WMF(config, train._dataset)
