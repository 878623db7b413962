"""Priors against torch.distributions."""

from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from recbole_evcf.model.layers import GatedLayer, TanhLayer
from recbole_evcf.model.prior import StandardNormalPrior, VampPrior
from recbole_evcf.model.vae import HistoryEncoder

pytestmark = pytest.mark.usefixtures("double")


def encoder_of(n_items, layer, p):
    sizes = SimpleNamespace(mlp_hidden_size=[6], latent_dimension=4, dropout_prob=p)
    return HistoryEncoder(sizes, n_items, layer)


def test_vamp_prior_is_the_mixture_of_posteriors_of_clamped_pseudo_inputs():
    torch.manual_seed(0)
    encoder = encoder_of(12, GatedLayer, 0.5).eval()
    prior = VampPrior(torch.randn(9, 12))
    components = encoder(prior.pseudo_inputs.clamp(0, 1))
    expected = MixtureSameFamily(
        Categorical(torch.ones(9)),
        Independent(Normal(components.mean, torch.exp(components.log_variance / 2)), 1),
    )
    z = torch.randn(15, 4)
    torch.testing.assert_close(prior.log_prob(z, encoder), expected.log_prob(z))


def test_gradient_reaches_pseudo_inputs_inside_the_bounds_only():
    encoder = encoder_of(2, TanhLayer, 0.0)
    prior = VampPrior(torch.tensor([[0.5, -0.5], [1.5, 0.3]]))
    prior.log_prob(torch.randn(3, 4), encoder).sum().backward()
    moved = prior.by_item.grad.T != 0
    assert moved.tolist() == [[True, False], [False, True]]


def test_standard_normal():
    z = torch.randn(7, 5)
    expected = Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(StandardNormalPrior().log_prob(z, None), expected)
