"""Active units and KL terms by unit, against torch.distributions and numerical integration."""

import numpy as np
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from recbole_evcf.inspection.units import gaussian_kl, marginal_kl, unit_table
from recbole_evcf.model.gaussian import Gaussian


def gaussian(*shape, seed):
    mean, log_variance = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    return Gaussian(mean, log_variance)


def normal(g):
    return Normal(g.mean.double(), (0.5 * g.log_variance.double()).exp())


def test_kl_of_two_gaussians():
    left, right = gaussian(6, 4, seed=1), gaussian(6, 4, seed=2)
    expected = kl_divergence(normal(left), normal(right)).float()
    torch.testing.assert_close(gaussian_kl(left, right), expected)


def test_marginal_kl_of_the_standard_normal_prior_is_exact():
    posterior = gaussian(30, 4, seed=3)
    expected = kl_divergence(normal(posterior), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(marginal_kl(posterior, None), expected)


def test_marginal_kl_of_a_mixture_meets_the_integral():
    posterior, components = gaussian(1, 2, seed=4), gaussian(3, 2, seed=5)
    torch.manual_seed(0)
    many = Gaussian(posterior.mean.expand(40_000, 2), posterior.log_variance.expand(40_000, 2))
    found = marginal_kl(many, components)
    grid = torch.linspace(-15, 15, 20_001, dtype=torch.float64)[:, None]
    log_q = normal(posterior).log_prob(grid)
    parts = normal(Gaussian(components.mean.T, components.log_variance.T))
    log_p = MixtureSameFamily(Categorical(torch.ones(2, 3)), parts).log_prob(grid)
    integral = (log_q.exp() * (log_q - log_p)).sum(0) * float(grid[1] - grid[0])
    np.testing.assert_allclose(found, integral, atol=0.02)


def test_units_are_active_by_the_variance_of_their_means():
    means = torch.stack([torch.arange(10.0), torch.linspace(0, 0.01, 10), torch.zeros(10)], dim=1)
    table = unit_table("z", means, torch.tensor([3.0, 2.0, 1.0]))
    assert table["unit"].tolist() == [0, 1, 2]
    assert table["active"].tolist() == [True, False, False]
    np.testing.assert_allclose(table["variance"], means.double().numpy().var(0, ddof=1))
    assert table["kl"].tolist() == [3, 2, 1]
