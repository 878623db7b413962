"""Priors against torch.distributions."""

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

from recbole_evcf.model.encoder import HistoryEncoder
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.layers import GatedLayer, TanhLayer
from recbole_evcf.model.prior import (
    StandardNormalPrior,
    VampPrior,
    data_pseudo_inputs,
    normal_pseudo_inputs,
)

pytestmark = pytest.mark.usefixtures("double")


def test_vamp_prior_is_the_mixture_of_posteriors_of_clamped_pseudo_inputs():
    torch.manual_seed(0)
    encoder = HistoryEncoder(12, [6], 4, layer=GatedLayer, dropout_prob=0.5).eval()
    prior = VampPrior(torch.randn(9, 12))
    components = encoder(prior.pseudo_inputs.clamp(0, 1))
    expected = MixtureSameFamily(
        Categorical(torch.ones(9)),
        Independent(Normal(components.mean, torch.exp(components.log_variance / 2)), 1),
    )
    z = torch.randn(15, 4)
    torch.testing.assert_close(prior.log_prob(z, encoder), expected.log_prob(z))


def test_gradient_reaches_pseudo_inputs_inside_the_bounds_only():
    encoder = HistoryEncoder(2, [6], 4, layer=TanhLayer, dropout_prob=0.0)
    prior = VampPrior(torch.tensor([[0.5, -0.5], [1.5, 0.3]]))
    prior.log_prob(torch.randn(3, 4), encoder).sum().backward()
    moved = prior.by_item.grad.T != 0
    assert moved.tolist() == [[True, False], [False, True]]


def test_standard_normal():
    z = torch.randn(7, 5)
    expected = Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(StandardNormalPrior().log_prob(z, None), expected)


def test_monte_carlo_kl_agrees_with_the_closed_form():
    torch.manual_seed(6)
    mean, log_variance = torch.randn(1, 5), torch.randn(1, 5)
    n = 200_000
    q = Gaussian(mean.expand(n, 5), log_variance.expand(n, 5))
    z = q.sample()
    draws = q.log_prob(z) - StandardNormalPrior().log_prob(z, None)
    standard = Normal(torch.zeros(5), torch.ones(5))
    closed = kl_divergence(Normal(mean[0], torch.exp(log_variance[0] / 2)), standard).sum()
    error = draws.std() / n**0.5
    assert abs(draws.mean() - closed) < 4 * error


def test_starts_of_the_pseudo_inputs():
    torch.manual_seed(7)
    normal = normal_pseudo_inputs(200, 300, 0.05, 0.01)
    assert normal.mean().item() == pytest.approx(0.05, abs=1e-3)
    assert normal.std().item() == pytest.approx(0.01, rel=0.02)
    histories = (torch.rand(200, 300) < 0.1).double()
    noise = data_pseudo_inputs(histories, 0.01) - histories
    assert noise.std().item() == pytest.approx(0.01, rel=0.02)
