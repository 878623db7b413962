"""What is read from a network, against its scores and loss, equation 7 and RecBole's metrics."""

import numpy as np
import pytest
import torch

from inspected import SG, untrained
from naive import affine, stack
from recbole_evcf.inspection import latent
from recbole_evcf.inspection.inspection import _Subject
from recbole_evcf.inspection.latent import LatentModel, gate_values, history_batches
from recbole_evcf.inspection.tables import per_user
from recbole_evcf.model.gaussian import Prior, mixture_log_prob

MODELS = pytest.mark.parametrize("name", ["Vamp", "GatedHVamp", "GatedMultiVAE"])


@MODELS
def test_means_and_prior_are_the_networks(name, tiny):
    *_, recommender, _, model, histories, users = untrained(name, tiny)
    history = histories.rows(users)
    scores = recommender.full_sort_predict({recommender.USER_ID: users})
    means = model.means(history)
    torch.testing.assert_close(model.logits(*means), scores[:, 1:])
    expected = recommender.network.latent(history).split(8, dim=1)
    torch.testing.assert_close(means, tuple(reversed(expected)))
    assert model.levels == (("z2", "z1") if name == "GatedHVamp" else ("z",))
    log_prior = recommender.network.prior.log_prob(means[0], model.encoder)
    torch.testing.assert_close(mixture_log_prob(means[0], model.components), log_prior)


@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli"])
def test_probabilities_follow_the_likelihood(likelihood, tiny):
    *_, model, histories, users = untrained("Vamp", tiny, likelihood=likelihood)
    means = model.means(histories.rows(users))
    odds = model.logits(*means).exp()
    expected = odds / (odds.sum(1, keepdim=True) if likelihood == "multinomial" else 1 + odds)
    torch.testing.assert_close(model.probabilities(*means), expected)


def test_a_prior_of_another_kind_is_refused(tiny):
    *_, recommender, _, _, _, _ = untrained("Vamp", tiny)
    recommender.network.prior = Prior()
    with pytest.raises(ValueError, match="VampPrior or the standard normal prior, no Prior"):
        LatentModel(recommender.network)


@MODELS
def test_kl_terms_add_up_to_that_of_the_elbo(name, tiny):
    *_, recommender, _, model, histories, users = untrained(name, tiny, anneal_cap=1.0)
    torch.manual_seed(1)
    table, lower_units = latent.level_kl(model, histories, users[:4].repeat(50))
    many = histories.rows(users[:4].repeat(1500))
    draws = recommender.network.elbo_terms(many)[1].reshape(1500, 4)
    error = draws.std(0) * np.sqrt(1 / (50 * latent.DRAWS) + 1 / 1500)
    found = table.sum(axis=1).to_numpy().reshape(50, 4).mean(0)
    assert (np.abs(found - draws.mean(0).numpy()) < 4 * error.numpy()).all()
    assert list(table) == list(model.levels)
    sums = [float(units.sum()) for units in lower_units]
    assert sums == pytest.approx([table["z1"].mean()] if model.hierarchical else [], rel=1e-6)


def test_replacements_of_two_levels(tiny):
    *_, model, histories, users = untrained("GatedHVamp", tiny)
    network, history = model.network, histories.rows(users)
    with torch.no_grad():
        z1, z2 = network.latent(history).chunk(2, dim=1)
        prior_z2 = network.encoder_z2(network.prior.pseudo_inputs.clamp(0, 1)).mean.mean(0)
        prior_z2 = prior_z2.expand_as(z2)
        expected = {
            "nothing": (z1, z2),
            "z1": (network.prior_z1(z2).mean, z2),
            "z2": (z1, prior_z2),
            "z1 and z2": (network.prior_z1(prior_z2).mean, prior_z2),
        }
        for replaced, levels in expected.items():
            found = model.means(history, replaced.split(" and "))
            torch.testing.assert_close(found, levels[::-1])


def test_gates_are_the_sigmoids_of_every_layer(tiny):
    # Not 16: the naive affine map tells a weight's sides by their lengths.
    *_, model, histories, users = untrained("GatedHVamp", tiny, mlp_hidden_size=[20])
    network = model.network
    x = histories.rows(users).normalized().dense()
    found = gate_values(model, history_batches(histories, users))
    with torch.no_grad():
        z1, z2 = network.latent(histories.rows(users)).chunk(2, dim=1)
        gates = {
            "q(z2 | x)": affine(network.encoder_z2.first.gate, x),
            "q(z1 | x, z2)": affine(network.encoder_z1.first.gate, torch.cat([x, z2], 1)),
            "p(z1 | z2)": affine(network.prior_z1[0][0].gate, z2),
            "p(x | z1, z2)": affine(network.decoder.joint[0].gate, torch.cat([z1, z2], 1)),
        }
    assert list(found) == list(gates)
    for name, gate in gates.items():
        value = torch.sigmoid(gate)
        expected = torch.stack([value, value < 0.1, value > 0.9]).mean(2).T
        np.testing.assert_allclose(found[name][["mean", "shut", "open"]], expected, rtol=1e-5)
    assert not any(module._forward_hooks for module in network.modules())


def test_deep_networks_name_each_layer_and_others_have_none(tiny):
    *_, model, histories, users = untrained("HVamp", tiny)
    assert gate_values(model, history_batches(histories, users)) == {}
    *_, model, histories, users = untrained("GatedHVamp", tiny, mlp_hidden_size=[16, 12])
    found = gate_values(model, history_batches(histories, users))
    layers = {
        "q(z2 | x)": ["first", "rest.0"],
        "q(z1 | x, z2)": ["first_x", "first_z2", "joint.0"],
        "p(z1 | z2)": ["0.0", "0.1"],
        "p(x | z1, z2)": ["first_z1.0", "first_z2.0", "joint.0"],
    }
    assert list(found) == [f"{name} {layer}" for name, each in layers.items() for layer in each]
    encoder, x = model.network.encoder_z2, histories.rows(users).normalized().dense()
    with torch.no_grad():
        second = torch.sigmoid(affine(encoder.rest[0].gate, stack([encoder.first], x, True)))
    np.testing.assert_allclose(found["q(z2 | x) rest.0"]["mean"], second.mean(1), rtol=1e-5)


def ranked(settings, k, **more):
    config, loaders, recommender, trainer, model, histories, _ = untrained(
        "GatedHVamp", settings, **more
    )
    with torch.no_grad():
        phase = _Subject(config, recommender, loaders).test
        users = phase.positives.lengths.nonzero().squeeze(1)
        ranking = latent.rank(model, histories, phase, users, k, "nothing")
    return loaders, trainer, phase, users, ranking, histories


@pytest.mark.parametrize("split", [{"RS": [0.8, 0.1, 0.1]}, SG])
def test_rankings_are_what_recbole_evaluates(split, tiny):
    split = {"split": split, "order": "RO", "group_by": "user", "mode": "full"}
    metrics = {"metrics": ["NDCG", "Recall", "TruncatedRecall"], "metric_decimal_place": 9}
    settings = {**tiny, **metrics, "eval_args": split, "topk": [4], "valid_metric": "NDCG@4"}
    loaders, trainer, _, _, ranking, _ = ranked(settings, 4)
    result = trainer.evaluate(loaders[2], load_best_model=False, show_progress=False)
    for truncated, recall in ((False, "recall@4"), (True, "truncatedrecall@4")):
        found = per_user(ranking.hits, ranking.targets, truncated).mean()
        assert found["ndcg"] == pytest.approx(result["ndcg@4"], abs=1e-6)
        assert found["recall"] == pytest.approx(result[recall], abs=1e-6)


def test_sampled_evaluation_has_the_same_phase(tiny):
    split = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user"}
    full, sampled = (ranked(tiny, 4, eval_args={**split, "mode": m})[2] for m in ("full", "uni20"))
    for part in ("positives", "seen"):
        assert (getattr(full, part).matrix() != getattr(sampled, part).matrix()).nnz == 0


@pytest.mark.parametrize("k", [5, 1000])
def test_lists_hold_nothing_seen_before(k, tiny):
    *_, phase, users, ranking, histories = ranked(tiny, k)
    assert ranking.items.shape == (len(users), min(k, histories.shape[1]))
    seen = phase.seen.rows(users).dense().numpy()
    positives = phase.positives.rows(users).dense().numpy()
    possible = histories.shape[1] - seen.sum(1).max()
    assert not np.take_along_axis(seen, ranking.items[:, : int(possible)], 1).any()
    assert (np.take_along_axis(positives, ranking.items, 1) == ranking.hits).all()
    assert (ranking.targets == positives.sum(1)).all()
    assert k == 5 or (ranking.hits.sum(1) == ranking.targets).all()
