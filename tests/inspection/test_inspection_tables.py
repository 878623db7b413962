"""Tables against formulas written out, SciPy, torch's distributions and loops."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from inspected import untrained
from recbole_evcf.inspection import tables
from recbole_evcf.inspection.inspection import _Subject
from recbole_evcf.inspection.latent import normal, rank
from recbole_evcf.model.gaussian import Gaussian


def gaussians(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, *shape, generator=generator, dtype=torch.float64))


def test_a_user_belongs_to_the_component_of_the_smallest_divergence(monkeypatch):
    users, components = gaussians(50, 3, seed=1), gaussians(6, 3, seed=2)
    of_user = Gaussian(users.mean[:, None], users.log_variance[:, None])
    divergence = kl_divergence(normal(of_user), normal(components)).sum(2)
    responsibility = (-divergence).softmax(1)
    # Not all users at once.
    monkeypatch.setattr("recbole_evcf.inspection.latent.BATCH_BYTES", 8 * 6 * 3)
    explained, table = tables.explain_users(users, components)
    assert explained["component"].tolist() == divergence.argmin(1).tolist()
    np.testing.assert_allclose(explained["responsibility"], responsibility.max(1).values)
    assert table["users"].is_monotonic_decreasing
    assert sorted(table["component"]) == list(range(6))
    mean, spread = responsibility.mean(0), normal(components).stddev.mean(1)
    for row in table.itertuples():
        assert row.users == (explained["component"] == row.component).sum() == 50 * row.share
        assert row.mean_responsibility == pytest.approx(float(mean[row.component]))
        assert row.spread == pytest.approx(float(spread[row.component]))


def test_wide_and_narrow_components_are_told_apart_by_the_whole_posterior():
    # At the mean itself the narrow component is the denser one.
    user = Gaussian(torch.zeros(1, 1), torch.zeros(1, 1))
    components = Gaussian(torch.zeros(2, 1), torch.tensor([[0.0], [-4.0]]))
    assert tables.explain_users(user, components)[0]["component"].tolist() == [0]


@pytest.mark.parametrize("name", ["Vamp", "GatedHVamp"])
def test_top_items(name, tiny):
    *_, model, histories, _ = untrained(name, tiny)
    network, average = model.network, np.full(histories.shape[1], 1 / histories.shape[1])
    average[0] *= 3
    tokens = np.array([f"token{column}" for column in range(histories.shape[1])], dtype=object)
    table = tables.component_items(model, average, tokens, 5)
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
    table = tables.component_items(model, average, np.arange(histories.shape[1]), 5)
    assert not (table["item"] == 3).any()
    assert np.isfinite(table[["probability", "lift"]]).all().all()


def test_marginal_kl_of_a_gaussian_is_exact_and_of_a_mixture_meets_the_integral():
    posterior, zeros = gaussians(30, 4, seed=3), torch.zeros(1, 4, dtype=torch.float64)
    expected = kl_divergence(normal(posterior), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(tables.marginal_kl(posterior, Gaussian(zeros, zeros)), expected)
    posterior, components = gaussians(1, 2, seed=4), gaussians(3, 2, seed=5)
    torch.manual_seed(0)
    many = Gaussian(posterior.mean.expand(40_000, 2), posterior.log_variance.expand(40_000, 2))
    found = tables.marginal_kl(many, components)
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
    table = tables.density_table(plane, given)
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
    split = {"split": {"RS": [0.5, 0.1, 0.4]}, "order": "RO", "mode": "full"}
    config, loaders, recommender, *_ = untrained("GatedHVamp", tiny, eval_args=split)
    subject = _Subject(config, recommender, loaders)
    users = subject.test.positives.lengths.nonzero().squeeze(1)
    ranking = rank(subject.model, subject.histories, subject.test, users, 5, "nothing")
    return subject, users, ranking


def test_by_history(quality):
    subject, users, ranking = quality
    lengths = subject.histories.lengths[users].numpy()
    metrics = tables.per_user(ranking.hits, ranking.targets, truncated=False)
    table = tables.means_by_group(metrics, lengths)
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
    table = tables.quality_by_popularity(ranking, positives, users, popularity, False)
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
    assert (tables.equal_frequency(values) == values // 20).all()
    assert tables.equal_frequency(np.full(7, 3)).tolist() == [0] * 7
    ties = np.array([1] * 90 + [2] * 5 + [3] * 5)
    assert len(set(zip(ties, tables.equal_frequency(ties)))) == 3
    weights = np.arange(1000)
    group = tables.equal_frequency(np.arange(1000), weights)
    np.testing.assert_allclose(np.bincount(group, weights) / weights.sum(), 0.2, atol=0.002)
    assert (np.diff(group) >= 0).all()
