"""WMF: ALS on the training users, one step of it for every user that is scored."""

import numpy as np
import pytest
import torch
from recbole.trainer import TraditionalTrainer

from build import SG as BY_USERS
from build import build
from recbole_evcf.data.histories import Histories
from recbole_evcf.model.wmf import WMF, fold_in

SG = {"eval_args": BY_USERS}


@pytest.fixture
def settings(tiny):
    own = {"embedding_size": 6, "reg_weight": 0.5, "alpha": 3.0, "als_iterations": 4}
    return {**tiny, **own}


def test_a_user_vector_is_that_of_implicit(settings):
    als = pytest.importorskip("implicit.cpu.als")
    _, (train, *_), model, _ = build("WMF", "tiny", {**settings, **SG})
    histories = train._dataset.input_histories
    users = torch.arange(histories.shape[0])
    reference = als.AlternatingLeastSquares(6, regularization=0.5, alpha=4.0)
    reference.item_factors = model.item_factors.numpy()
    expected = reference.recalculate_user(users.numpy(), histories.matrix())
    assert expected.any()
    np.testing.assert_allclose(model.user_vectors(users).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_training_comes_to_a_minimum_of_the_objective(settings, exponent):
    given = {**settings, **SG, "reg_exponent": exponent, "als_iterations": 300}
    _, (train, *_), model, _ = build("WMF", "tiny", given)
    trained = Histories.from_dataset(train._dataset).lengths > 0
    rows = Histories.from_dataset(train._dataset).rows(trained.nonzero()[:, 0]).dense().double()
    items = model.item_factors.double().requires_grad_()
    users = model.user_vectors(trained.nonzero()[:, 0]).double()
    errors = (1 + 3 * rows) * (rows - users @ items.T) ** 2
    # Rendle et al. 2022, with 1 / alpha for the weight of what was not observed.
    weights = 0.5 * (rows.sum(0) + len(rows) / 3) ** exponent
    loss = errors.sum() + (weights * items.square().sum(1)).sum()
    (gradient,) = torch.autograd.grad(loss, items)
    assert gradient.abs().max() < 1e-3 * errors.sum()


@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_fold_in_minimises_the_objective(histories, dense, double, exponent):
    items = torch.randn(dense.shape[1], 4)
    users = torch.tensor([5, 3, 1, 8])
    vectors = fold_in(items, histories, users, 7.0, 0.3, exponent).requires_grad_()
    rows = torch.from_numpy(dense[users.numpy()]).double()
    errors = (1 + 7 * rows) * (rows - vectors @ items.T) ** 2
    weights = 0.3 * (rows.sum(1) + dense.shape[1] / 7) ** exponent
    loss = errors.sum() + (weights * vectors.square().sum(1)).sum()
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
    assert torch.equal(WMF(config, train._dataset).item_factors, model.item_factors)
    config["seed"] += 1
    assert not torch.equal(WMF(config, train._dataset).item_factors, model.item_factors)


@pytest.mark.parametrize("split", [{}, SG])
def test_fitting_changes_nothing(settings, split):
    settings = {**settings, **split, "weight_decay": 0.1}
    _, (train, valid, test), model, trainer = build("WMF", "tiny", settings)
    assert isinstance(trainer, TraditionalTrainer)
    before = model.item_factors.clone()
    trainer.fit(train, valid, show_progress=False)
    assert torch.equal(model.item_factors, before)
    result = trainer.evaluate(test, load_best_model=True, show_progress=False)
    assert 0 < result["ndcg@10"] <= 1


def test_a_wrong_setting_is_named(settings):
    with pytest.raises(ValueError, match=r"^alpha must be a number above 0, not None\.$"):
        build("WMF", "tiny", {**settings, "alpha": None})


def test_no_regularization(settings):
    _, _, model, _ = build("WMF", "tiny", {**settings, "reg_weight": 0})
    assert model.user_vectors(torch.arange(9)).isfinite().all()
    message = "^reg_weight 0 with alpha 3 leaves vectors of embedding_size 60 undetermined: "
    with pytest.raises(ValueError, match=message):
        build("WMF", "tiny", {**settings, "reg_weight": 0, "embedding_size": 60})
