"""What the levels carry, against the loss that was trained and against scores written out."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from inspected import untrained
from recbole_evcf.inspection import levels
from recbole_evcf.inspection.quality import held_out
from recbole_evcf.model.gaussian import Gaussian


@pytest.mark.parametrize("name", ["Vamp", "GatedHVamp", "GatedMultiVAE"])
def test_kl_terms_add_up_to_that_of_the_elbo(name, tiny, monkeypatch):
    *_, recommender, _, model, histories, users = untrained(name, tiny, anneal_cap=1.0)
    monkeypatch.setattr(levels, "DRAWS", 400)
    torch.manual_seed(1)
    table, lower_units = levels.level_kl(model, histories, users[:4])
    history = histories.rows(users[:4])
    with torch.no_grad():
        draws = torch.stack([recommender.network.elbo_terms(history)[1] for _ in range(1500)])
    error = draws.std(0) * np.sqrt(1 / 400 + 1 / 1500)
    difference = table.sum(axis=1).to_numpy() - draws.mean(0).numpy()
    assert (np.abs(difference) < 4 * error.numpy()).all()
    assert list(table) == list(model.levels)
    if model.hierarchical:
        assert float(lower_units.sum()) == pytest.approx(table["z1"].mean(), rel=1e-6)
    else:
        assert lower_units is None


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
        for name, latent in expected.items():
            logits = levels.logits_without(model, name, history)
            torch.testing.assert_close(logits, network.output(network.decoder(*latent)))


def test_table_of_replacements(tiny):
    _, loaders, _, _, model, histories, _ = untrained("GatedMultiVAE", tiny)
    phase = held_out(*loaders)
    users = phase.positives.lengths.nonzero().squeeze(1)
    table = levels.replaced_levels(model, histories, phase, users, 10, False)
    assert table["replaced"].tolist() == ["nothing", "z"]
    history = histories.rows(users)
    with torch.no_grad():
        p = torch.softmax(model.logits(*model.means(history)), 1)
    of_users = (history.dense() * p.log()).sum(1) / history.lengths
    assert table["log_likelihood"][0] == pytest.approx(float(of_users.mean()), rel=1e-5)
    error = float(of_users.std()) / np.sqrt(len(users))
    assert table["log_likelihood_se"][0] == pytest.approx(error, rel=1e-4)


def gaussian(*shape, seed):
    mean, log_variance = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    return Gaussian(mean, log_variance)


def normal(g):
    return Normal(g.mean.double(), (0.5 * g.log_variance.double()).exp())


def test_marginal_kl_of_the_standard_normal_prior_is_exact():
    posterior = gaussian(30, 4, seed=3)
    expected = kl_divergence(normal(posterior), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(levels.marginal_kl(posterior, None), expected)


def test_marginal_kl_of_a_mixture_meets_the_integral():
    posterior, components = gaussian(1, 2, seed=4), gaussian(3, 2, seed=5)
    torch.manual_seed(0)
    many = Gaussian(posterior.mean.expand(40_000, 2), posterior.log_variance.expand(40_000, 2))
    found = levels.marginal_kl(many, components)
    grid = torch.linspace(-15, 15, 20_001, dtype=torch.float64)[:, None]
    log_q = normal(posterior).log_prob(grid)
    parts = normal(Gaussian(components.mean.T, components.log_variance.T))
    log_p = MixtureSameFamily(Categorical(torch.ones(2, 3)), parts).log_prob(grid)
    integral = (log_q.exp() * (log_q - log_p)).sum(0) * float(grid[1] - grid[0])
    np.testing.assert_allclose(found, integral, atol=0.02)


def test_units_are_active_by_the_variance_of_their_means():
    means = torch.stack([torch.arange(10.0), torch.linspace(0, 0.01, 10), torch.zeros(10)], dim=1)
    table = levels.unit_table("z", means, torch.tensor([3.0, 2.0, 1.0]))
    assert table["unit"].tolist() == [0, 1, 2]
    assert table["active"].tolist() == [True, False, False]
    np.testing.assert_allclose(table["variance"], means.double().numpy().var(0, ddof=1))
    assert table["kl"].tolist() == [3, 2, 1]
