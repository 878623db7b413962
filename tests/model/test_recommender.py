"""The models as RecBole recommenders: scores by RecBole's ids, losses, the warm-up's schedules."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from build import build
from recbole_evcf.model.models import item_vectors
from recbole_evcf.model.recommender import KLWarmup
from recbole_evcf.model.vae import prior_scores

MODELS = ["Vamp", "HVamp", "GatedMultiVAE", "GatedVamp", "GatedHVamp"]


@pytest.mark.parametrize("name", [*MODELS, "WMF"])
def test_scores(tiny, name):
    _, (train, _, _), model, _ = build(name, "tiny", tiny)
    model.eval()
    users = torch.tensor([3, 1, 7])
    scores = model.full_sort_predict(Interaction({"user_id": users}))
    assert scores.shape == (3, train._dataset.item_num)
    assert (scores[:, 0] == -torch.inf).all()
    if name == "WMF":
        expected = model.user_vectors(users) @ model.item_factors.T
    else:
        expected = model.network.output(model.network.last_hidden(model._histories.rows(users)))
    torch.testing.assert_close(scores[:, 1:], expected)
    pairs = {"user_id": torch.tensor([7, 3, 7]), "item_id": torch.tensor([1, 5, 40])}
    expected = torch.stack([scores[2, 1], scores[0, 5], scores[2, -1]])
    torch.testing.assert_close(model.predict(Interaction(pairs)), expected)
    # The input is the training part only.
    dense, feat = torch.zeros(train._dataset.user_num, 41), train._dataset.inter_feat
    dense[feat["user_id"], feat["item_id"]] = 1
    histories = model._histories.rows(torch.arange(len(dense)))
    torch.testing.assert_close(histories.dense(), dense[:, 1:])


def test_loss_parts_and_weight(tiny):
    _, (train, _, _), model, _ = build("GatedHVamp", "tiny", {**tiny, "total_anneal_steps": 10})
    batch = next(iter(train))
    torch.manual_seed(0)
    reconstruction, kl = model.loss_terms(batch)
    torch.manual_seed(0)
    parts = model.calculate_loss(batch)
    torch.testing.assert_close(parts[0], reconstruction)
    torch.testing.assert_close(parts[1], 0.1 * kl)


def test_pseudo_inputs_are_drawn_from_the_normal_distribution_of_the_settings(tiny):
    settings = {"pseudo_inputs_mean": 0.3, "pseudo_inputs_std": 0.02, "n_pseudo_inputs": 500}
    _, _, model, _ = build("Vamp", "tiny", {**tiny, **settings})
    start = model.network.prior.pseudo_inputs
    assert start.shape == (500, 40)
    assert start.mean().item() == pytest.approx(0.3, abs=1e-3)
    assert start.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("k", [7, 150])
def test_pseudo_inputs_from_data_are_training_histories(tiny, k):
    start = {"pseudo_inputs_init": "data", "pseudo_inputs_std": 0.001, "n_pseudo_inputs": k}
    _, _, model, _ = build("Vamp", "tiny", {**tiny, **start})
    start = model.network.prior.pseudo_inputs.detach()
    assert start.shape == (k, 40)
    users = model._histories.lengths.nonzero().squeeze(1)
    histories = model._histories.rows(users).dense()
    distance = torch.cdist(start, histories)
    assert distance.min(1).values.max() < 0.05
    drawn = distance.argmin(1)
    # All different while there are users enough.
    assert len(drawn.unique()) == min(k, len(users))


@pytest.mark.parametrize(("init", "low", "high"), [("data", 0.9, 1), ("normal", 0.01, 0.1)])
def test_sparse_pseudo_inputs_are_on_items_of_different_training_histories(tiny, init, low, high):
    settings = {**tiny, "pseudo_inputs_init": init, "pseudo_input_size": 8, "n_pseudo_inputs": 50}
    _, _, model, _ = build("Vamp", "tiny", settings)
    start = model.network.prior.pseudo_inputs.detach()
    histories = model._histories.rows(model._histories.lengths.nonzero().squeeze(1)).dense()
    inside = (start > 0).float() @ histories.T == (start > 0).sum(1, keepdim=True)
    sizes = (start > 0).sum(1)
    assert inside.any(1).all()
    assert (inside & (histories.sum(1).clamp(max=8) == sizes[:, None])).any(1).all()
    assert len({tuple(row) for row in (start > 0).tolist()}) == 50
    assert low < start[start > 0].min() <= start.max() <= high


@pytest.mark.parametrize("model", ["GatedHVamp", "MultiVAE", "MultiDAE", "RecVAE", "CDAE"])
def test_an_items_score_moves_with_its_vector_alone(model, tiny):
    network = build(model, "tiny", {**tiny, "hidden_dimension": 16, "embedding_size": 8})[2].eval()
    users = {"user_id": torch.arange(1, 9)}
    before = network.full_sort_predict(users).reshape(8, -1)
    vectors = item_vectors(network)
    assert len(vectors) == 40
    # Shares its memory with the decoder.
    vectors[5] += 1
    changed = (network.full_sort_predict(users).reshape(8, -1) != before).any(0)
    assert changed.nonzero().flatten().tolist() == [6]


def test_a_model_without_a_decoder_is_named(tiny):
    with pytest.raises(ValueError, match="EASE has no decoder with item vectors"):
        item_vectors(build("EASE", "tiny", tiny)[2])


@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli"])
@pytest.mark.parametrize("model", ["GatedHVamp", "HVamp", "Vamp", "GatedMultiVAE"])
def test_the_mean_probability_over_the_components(model, likelihood, tiny, monkeypatch):
    settings = {**tiny, "likelihood": likelihood, "mlp_hidden_size": [16, 12]}
    network = build(model, "tiny", settings)[2].eval().network
    two = "HVamp" in model
    encoder = network.encoder_z2 if two else network.encoder
    means = torch.zeros(1, 8)
    if model != "GatedMultiVAE":
        # Each pseudo-input by itself.
        means = [encoder(u[None].clamp(0, 1)).mean[0] for u in network.prior.pseudo_inputs]
        assert len(means) == 7
    probability = np.zeros(40)
    with torch.no_grad():
        for z in means:
            z = z[None]
            hidden = network.decoder(network.prior_z1(z).mean, z) if two else network.decoder(z)
            logits = network.output(hidden)[0].double()
            p = logits.softmax(0) if likelihood == "multinomial" else logits.sigmoid()
            probability += p.numpy() / len(means)
    np.testing.assert_allclose(prior_scores(network), np.log(probability), rtol=1e-4)
    # Not all components at once.
    monkeypatch.setattr("recbole_evcf.model.vae.SCORES_AT_ONCE", 3 * 40)
    np.testing.assert_allclose(prior_scores(network), np.log(probability), rtol=1e-4)


@pytest.mark.parametrize(
    ("length", "attribute", "expected", "finished"),
    [
        ({"epochs": 100}, "epoch", lambda epoch: 0.2 * min(1, epoch / 100), 100),
        ({"steps": 50}, "step", lambda step: min(0.2, step / 50), 10),
        ({"steps": 0}, "step", lambda step: 0.2, 0),
        ({"epochs": 0}, "epoch", lambda epoch: 0.2, 0),
    ],
)
def test_the_kl_weight_rises_linearly_to_the_cap(length, attribute, expected, finished):
    warmup = KLWarmup(0.2, **length)
    for count in range(103):
        assert float(warmup.weight) == pytest.approx(expected(count))
        warmup.begin_epoch()
        assert warmup.was_finished == (count >= finished)
        setattr(warmup, attribute, getattr(warmup, attribute) + 1)
    fresh = KLWarmup(0.2, **length)
    fresh.load_state_dict(warmup.state_dict())
    assert getattr(fresh, attribute) == 103


def test_a_trainer_that_counts_no_epochs_has_them_counted_by_users():
    warmup = KLWarmup(0.2, epochs=2, users=7)
    # The weight is that of the batch's own epoch.
    for seen, weight, epoch in ((4, 0.0, 0), (3, 0.0, 1), (4, 0.1, 1), (3, 0.1, 2)):
        assert float(warmup.count_batch(seen)) == pytest.approx(weight)
        assert not warmup.was_finished
        assert int(warmup.epoch) == epoch
    warmup.count_batch(4)
    assert warmup.was_finished
