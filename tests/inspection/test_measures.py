"""What is measured, against the network's scores and loss, formulas, SciPy, torch and RecBole."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from build import RS, SG
from inspected import untrained
from naive import affine, stack
from recbole_evcf.inspection import measures
from recbole_evcf.inspection.inspection import _Subject
from recbole_evcf.inspection.measures import gate_values, history_batches, normal, per_user
from recbole_evcf.model.gaussian import Gaussian, Prior, mixture_log_prob

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
        measures.LatentModel(recommender.network)


@MODELS
def test_kl_terms_add_up_to_that_of_the_elbo(name, tiny):
    *_, recommender, _, model, histories, users = untrained(name, tiny, anneal_cap=1.0)
    torch.manual_seed(1)
    table, lower_units = measures.level_kl(model, histories, users[:4].repeat(50))
    many = histories.rows(users[:4].repeat(1500))
    draws = recommender.network.elbo_terms(many)[1].reshape(1500, 4)
    error = draws.std(0) * np.sqrt(1 / (50 * measures.DRAWS) + 1 / 1500)
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
    """Dataloaders, trainer, subject, test users and the ranking of their items."""
    config, loaders, recommender, trainer, *_ = untrained("GatedHVamp", settings, **more)
    subject = _Subject(config, recommender, loaders)
    users = subject.test.positives.lengths.nonzero().squeeze(1)
    with torch.no_grad():
        ranking = measures.rank(subject.model, subject.histories, subject.test, users, k, "nothing")
    return loaders, trainer, subject, users, ranking


@pytest.mark.parametrize("split", [RS, SG], ids=["RS", "SG"])
def test_rankings_are_what_recbole_evaluates(split, tiny):
    metrics = {"metrics": ["NDCG", "Recall", "TruncatedRecall"], "metric_decimal_place": 9}
    settings = {**tiny, **metrics, "eval_args": split, "topk": [4], "valid_metric": "NDCG@4"}
    loaders, trainer, *_, ranking = ranked(settings, 4)
    result = trainer.evaluate(loaders[2], load_best_model=False, show_progress=False)
    for truncated, recall in ((False, "recall@4"), (True, "truncatedrecall@4")):
        found = per_user(ranking.hits, ranking.targets, truncated).mean()
        assert found["ndcg"] == pytest.approx(result["ndcg@4"], abs=1e-6)
        assert found["recall"] == pytest.approx(result[recall], abs=1e-6)


def test_sampled_evaluation_has_the_same_phase(tiny):
    full, sampled = (
        ranked(tiny, 4, eval_args={**RS, "mode": mode})[2].test for mode in ("full", "uni20")
    )
    for part in ("positives", "seen"):
        assert (getattr(full, part).matrix() != getattr(sampled, part).matrix()).nnz == 0


@pytest.mark.parametrize("k", [5, 1000])
def test_lists_hold_nothing_seen_before(k, tiny):
    *_, subject, users, ranking = ranked(tiny, k)
    phase, histories = subject.test, subject.histories
    assert ranking.items.shape == (len(users), min(k, histories.shape[1]))
    seen = phase.seen.rows(users).dense().numpy()
    positives = phase.positives.rows(users).dense().numpy()
    possible = histories.shape[1] - seen.sum(1).max()
    assert not np.take_along_axis(seen, ranking.items[:, : int(possible)], 1).any()
    assert (np.take_along_axis(positives, ranking.items, 1) == ranking.hits).all()
    assert (ranking.targets == positives.sum(1)).all()
    assert k == 5 or (ranking.hits.sum(1) == ranking.targets).all()


def gaussians(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, *shape, generator=generator, dtype=torch.float64))


def test_a_user_belongs_to_the_component_of_the_smallest_divergence(monkeypatch):
    users, components = gaussians(50, 3, seed=1), gaussians(6, 3, seed=2)
    of_user = Gaussian(users.mean[:, None], users.log_variance[:, None])
    divergence = kl_divergence(normal(of_user), normal(components)).sum(2)
    responsibility = (-divergence).softmax(1)
    # Not all users at once.
    monkeypatch.setattr("recbole_evcf.inspection.measures.BATCH_BYTES", 8 * 6 * 3)
    explained, table = measures.explain_users(users, components)
    assert explained["component"].tolist() == divergence.argmin(1).tolist()
    np.testing.assert_allclose(explained["responsibility"], responsibility.max(1).values)
    assert table["users"].is_monotonic_decreasing
    assert sorted(table["component"]) == list(range(6))
    mean, spread = responsibility.mean(0), normal(components).stddev.mean(1)
    for row in table.itertuples():
        assert row.users == (explained["component"] == row.component).sum() == 50 * row.share
        assert row.mean_responsibility == pytest.approx(float(mean[row.component]))
        assert row.spread == pytest.approx(float(spread[row.component]))


@pytest.mark.parametrize("name", ["Vamp", "GatedHVamp"])
def test_top_items(name, tiny):
    *_, model, histories, _ = untrained(name, tiny)
    network, average = model.network, np.full(histories.shape[1], 1 / histories.shape[1])
    average[0] *= 3
    tokens = np.array([f"token{column}" for column in range(histories.shape[1])], dtype=object)
    table = measures.component_items(model, average, tokens, 5)
    assert len(table) == 7 * 2 * 5
    for k in range(7):
        pseudo_input = network.prior.pseudo_inputs[k].clamp(0, 1)[None]
        if model.hierarchical:
            z2 = network.encoder_z2(pseudo_input).mean
            hidden = network.decoder(network.prior_z1(z2).mean, z2)
        else:
            hidden = network.decoder(network.encoder(pseudo_input).mean)
        p = torch.softmax(network.output(hidden), 1)[0].double().numpy()
        scores = {"probability": p, "distinction": p * np.log(p / average)}
        for by, score in scores.items():
            part = table[(table["component"] == k) & (table["by"] == by)]
            best = np.argsort(-score)[:5]
            assert part["item"].tolist() == tokens[best].tolist()
            np.testing.assert_allclose(part["probability"], p[best], rtol=1e-5)
            np.testing.assert_allclose(part["lift"], p[best] / average[best], rtol=1e-5)
            np.testing.assert_allclose(part["pseudo_input"], pseudo_input[0][best])


def test_impossible_items_are_nobodys_top(tiny):
    *_, model, histories, _ = untrained("Vamp", tiny)
    model.network.output.bias[3] = -500
    average = np.full(histories.shape[1], 1 / histories.shape[1])
    average[3] = 0
    table = measures.component_items(model, average, np.arange(histories.shape[1]), 5)
    assert not (table["item"] == 3).any()
    assert np.isfinite(table[["probability", "lift"]]).all().all()


def test_marginal_kl_of_a_gaussian_is_exact_and_of_a_mixture_meets_the_integral():
    posterior, zeros = gaussians(30, 4, seed=3), torch.zeros(1, 4, dtype=torch.float64)
    expected = kl_divergence(normal(posterior), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(measures.marginal_kl(posterior, Gaussian(zeros, zeros)), expected)
    posterior, components = gaussians(1, 2, seed=4), gaussians(3, 2, seed=5)
    torch.manual_seed(0)
    many = Gaussian(posterior.mean.expand(40_000, 2), posterior.log_variance.expand(40_000, 2))
    found = measures.marginal_kl(many, components)
    grid = torch.linspace(-15, 15, 20_001, dtype=torch.float64)[:, None]
    log_q = normal(posterior).log_prob(grid)
    parts = normal(Gaussian(components.mean.T, components.log_variance.T))
    log_p = MixtureSameFamily(Categorical(torch.ones(2, 3)), parts).log_prob(grid)
    integral = (log_q.exp() * (log_q - log_p)).sum(0) * float(grid[1] - grid[0])
    np.testing.assert_allclose(found, integral, atol=0.02)


def test_densities_are_those_of_projected_gaussians():
    rng = np.random.default_rng(4)
    points = rng.normal(size=(200, 6)) @ np.diag([4, 3, 1, 1, 0.5, 0.1]) + 2
    plane = PCA(2).fit(points)
    many = points, rng.uniform(0.1, 0.5, size=(200, 6))
    few = points[:5], rng.uniform(0.5, 2, size=(5, 6))
    mixtures = {"many": many, "few": few, "normal": (np.zeros((1, 6)), np.ones((1, 6)))}
    given = {
        name: Gaussian(torch.from_numpy(mean), torch.from_numpy(variance).log())
        for name, (mean, variance) in mixtures.items()
    }
    table = measures.density_table(plane, given)
    grid = table[["pc1", "pc2"]].to_numpy()
    step = [np.diff(np.unique(table[axis])).mean() for axis in ("pc1", "pc2")]
    for name, pairs in mixtures.items():
        axes, densities = plane.components_, []
        for mean, variance in zip(*pairs):
            covariance = axes @ np.diag(variance) @ axes.T
            densities.append(multivariate_normal(axes @ (mean - plane.mean_), covariance).pdf(grid))
        np.testing.assert_allclose(table[name], np.mean(densities, 0), rtol=1e-9, atol=1e-300)
        # The grid holds nearly all of it.
        assert 0.98 < table[name].sum() * np.prod(step) < 1.001


@pytest.fixture
def quality(tiny):
    return ranked(tiny, 5, eval_args={**RS, "split": {"RS": [0.5, 0.1, 0.4]}})[2:]


def test_by_history(quality):
    subject, users, ranking = quality
    lengths = subject.histories.lengths[users].numpy()
    metrics = measures.per_user(ranking.hits, ranking.targets, truncated=False)
    table = measures.means_by_group(metrics, lengths)
    assert table["count"].sum() == len(users)
    assert (table["from"].to_numpy()[1:] > table["to"].to_numpy()[:-1]).all()
    for row in table.to_dict("records"):
        inside = metrics[(lengths >= row["from"]) & (lengths <= row["to"])]
        assert row["count"] == len(inside)
        for metric in ("ndcg", "recall"):
            assert row[metric] == pytest.approx(inside[metric].mean())
            error = np.std(inside[metric], ddof=1) / len(inside) ** 0.5
            assert row[f"{metric}_se"] == pytest.approx(error)


def test_by_popularity(quality):
    subject, users, ranking = quality
    popularity, positives = subject.popularity, subject.test.positives
    table = measures.quality_by_popularity(ranking, positives, users, popularity, False)
    assert table["held_out"].sum() == pytest.approx(1)
    assert table["recommended"].sum() == pytest.approx(1)
    assert table["items"].sum() == len(popularity)
    for row in table.to_dict("records"):
        ndcg, recall, places = [], [], 0
        for place, user in enumerate(users):
            inside = (popularity >= row["from"]) & (popularity <= row["to"])
            wanted = [c for c in positives.rows(user[None]).column.tolist() if inside[c]]
            shown = ranking.items[place].tolist()
            places += inside[shown].sum()
            if not wanted:
                continue
            gain = sum(1 / np.log2(shown.index(item) + 2) for item in wanted if item in shown)
            ndcg.append(gain / sum(1 / np.log2(r + 2) for r in range(min(5, len(wanted)))))
            recall.append(np.mean([item in shown for item in wanted]))
        assert row["users"] == len(ndcg)
        assert row["ndcg"] == pytest.approx(np.mean(ndcg))
        assert row["recall"] == pytest.approx(np.mean(recall))
        assert row["recall_se"] == pytest.approx(np.std(recall, ddof=1) / len(recall) ** 0.5)
        assert row["recommended"] == pytest.approx(places / ranking.items.size)


def test_groups_share_out_the_weight_and_keep_equal_values_together():
    values = np.random.default_rng(0).permutation(100)
    assert (measures.equal_frequency(values) == values // 20).all()
    assert measures.equal_frequency(np.full(7, 3)).tolist() == [0] * 7
    ties = np.array([1] * 90 + [2] * 5 + [3] * 5)
    assert len(set(zip(ties, measures.equal_frequency(ties)))) == 3
    weights = np.arange(1000)
    group = measures.equal_frequency(np.arange(1000), weights)
    np.testing.assert_allclose(np.bincount(group, weights) / weights.sum(), 0.2, atol=0.002)
    assert (np.diff(group) >= 0).all()
