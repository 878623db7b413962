"""Gaussian densities, the mixture and the priors against torch.distributions."""

from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from recbole_evcf.model import layers
from recbole_evcf.model.gaussian import (
    Gaussian,
    SparseVampPrior,
    StandardNormalPrior,
    VampPrior,
    mixture_log_prob,
)
from recbole_evcf.model.layers import GatedLayer, TanhLayer
from recbole_evcf.model.vae import HistoryEncoder


def mixture(components: Gaussian) -> MixtureSameFamily:
    std = torch.exp(components.log_variance.double() / 2)
    return MixtureSameFamily(
        Categorical(torch.ones(len(std), dtype=torch.float64)),
        Independent(Normal(components.mean.double(), std), 1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("low", [-2.0, -12.0])
def test_mixture_log_prob(dtype, low):
    torch.manual_seed(2)
    mean, log_variance = torch.randn(30, 20), torch.empty(30, 20).uniform_(low, 4)
    near = mean[:8] + torch.randn(8, 20) * torch.exp(log_variance[:8] / 2)
    z, mean, log_variance = (
        part.to(dtype) for part in (torch.cat([near, torch.randn(8, 20) * 3]), mean, log_variance)
    )
    components = Gaussian(mean, log_variance)
    result = mixture_log_prob(z, components)
    assert result.dtype == dtype
    expected = mixture(components).log_prob(z.double())
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("dtype", "low"), [(torch.float64, -2), (torch.float32, -12)])
def test_mixture_gradient(dtype, low):
    torch.manual_seed(7)
    mean, log_variance = torch.randn(30, 20), torch.empty(30, 20).uniform_(low, low + 4)
    z = mean[:8] + torch.randn(8, 20) * torch.exp(log_variance[:8] / 2)
    inputs = [t.detach().to(dtype).requires_grad_() for t in (z, mean, log_variance)]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    ours = torch.autograd.grad(mixture_log_prob(inputs[0], Gaussian(*inputs[1:])).sum(), inputs)
    theirs = torch.autograd.grad(mixture(Gaussian(*wide[1:])).log_prob(wide[0]).sum(), wide)
    for our, their in zip(ours, theirs):
        assert our.dtype == dtype
        tolerance = 1e-4 if dtype == torch.float32 else 1e-7
        assert (our.double() - their).norm() < tolerance * their.norm()


def test_no_gradient_is_so_small_that_processors_are_slow():
    # Responsibilities from 1 down to 1e-60, of one draw with unit variances.
    distances = torch.linspace(0, 16.6, 60)[:, None]
    inputs = [torch.zeros(1, 1), distances, torch.zeros(60, 1)]
    inputs = [each.requires_grad_() for each in inputs]
    wide = [each.detach().double().requires_grad_() for each in inputs]
    ours = torch.autograd.grad(mixture_log_prob(inputs[0], Gaussian(*inputs[1:])).sum(), inputs)
    theirs = torch.autograd.grad(mixture(Gaussian(*wide[1:])).log_prob(wide[0]).sum(), wide)
    for our, their in zip(ours, theirs):
        torch.testing.assert_close(our.double(), their, rtol=1e-5, atol=1e-18)
        assert not ((our != 0) & (our.abs() < 1e-22)).any()
    assert (ours[1] == 0).sum() > 10


def test_log_prob_of_a_gaussian_and_of_the_standard_normal_prior():
    torch.manual_seed(4)
    q = Gaussian(torch.randn(5, 4), torch.randn(5, 4))
    z = torch.randn(5, 4)
    expected = Normal(q.mean, torch.exp(q.log_variance / 2)).log_prob(z).sum(1)
    torch.testing.assert_close(q.log_prob(z), expected)
    expected = Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(StandardNormalPrior().log_prob(z, None), expected)


def test_sample_has_the_mean_and_unit_variance_noise():
    torch.manual_seed(5)
    q = Gaussian(torch.full((20000, 1), 1.5), torch.full((20000, 1), -1.0))
    z = q.sample()
    assert z.mean().item() == pytest.approx(1.5, abs=0.02)
    assert z.var().item() == pytest.approx(torch.exp(torch.tensor(-1.0)).item(), rel=0.05)


def encoder_of(n_items, layer, p):
    sizes = SimpleNamespace(mlp_hidden_size=[6], latent_dimension=4, dropout_prob=p)
    return HistoryEncoder(sizes, n_items, layer)


@pytest.mark.usefixtures("double")
def test_vamp_prior_is_the_mixture_of_posteriors_of_clamped_pseudo_inputs():
    torch.manual_seed(0)
    encoder = encoder_of(12, GatedLayer, 0.5).eval()
    prior = VampPrior(torch.randn(9, 12))
    z = torch.randn(15, 4)
    expected = mixture(encoder(prior.pseudo_inputs.clamp(0, 1))).log_prob(z)
    torch.testing.assert_close(prior.log_prob(z, encoder), expected)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("layer", [GatedLayer, TanhLayer])
def test_sparse_pseudo_inputs_are_dense_ones_with_zeros_elsewhere(layer, monkeypatch):
    monkeypatch.setattr(layers, "ENTRIES", 3)
    torch.manual_seed(0)
    encoder, z = encoder_of(12, layer, 0.5).eval(), torch.randn(15, 4)
    items = torch.tensor([[3, 0, 11], [5, -1, -1], [-1, -1, -1], [2, 3, -1]])
    sparse = SparseVampPrior(items, torch.randn(4, 3) + 0.5, 12)
    dense = VampPrior(torch.zeros(4, 12))
    row, place = (items >= 0).nonzero(as_tuple=True)
    with torch.no_grad():
        dense.pseudo_inputs[row, items[row, place]] = sparse.values[row, place]
    results, gradients = [], []
    for prior, values in ((sparse, sparse.values), (dense, dense.by_item)):
        results.append(prior.log_prob(z, encoder))
        wanted = [values, *encoder.parameters()]
        gradients.append(torch.autograd.grad(results[-1].sum(), wanted))
    torch.testing.assert_close(*results)
    assert torch.equal(sparse.pseudo_inputs, dense.pseudo_inputs.clamp(0, 1))
    (of_values, *ours), (by_item, *theirs) = gradients
    torch.testing.assert_close(of_values[row, place], by_item.T[row, items[row, place]])
    assert (of_values[items < 0] == 0).all()
    for our, their in zip(ours, theirs):
        torch.testing.assert_close(our, their)


def test_gradient_reaches_pseudo_inputs_inside_the_bounds_only():
    encoder = encoder_of(2, TanhLayer, 0.0)
    prior = VampPrior(torch.tensor([[0.5, -0.5], [1.5, 0.3]]))
    prior.log_prob(torch.randn(3, 4), encoder).sum().backward()
    assert (prior.by_item.grad.T != 0).tolist() == [[True, False], [False, True]]
