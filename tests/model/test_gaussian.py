"""Gaussian densities and the mixture against torch.distributions."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from recbole_evcf.model.gaussian import Gaussian, mixture_log_prob


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
    components = Gaussian(
        torch.randn(30, 20, dtype=dtype), torch.empty(30, 20, dtype=dtype).uniform_(low, 4)
    )
    near = components.mean[:8] + torch.randn(8, 20, dtype=dtype) * torch.exp(
        components.log_variance[:8] / 2
    )
    z = torch.cat([near, torch.randn(8, 20, dtype=dtype) * 3])
    result = mixture_log_prob(z, components)
    assert result.dtype == dtype
    torch.testing.assert_close(
        result.double(), mixture(components).log_prob(z.double()), rtol=1e-6, atol=1e-5
    )


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


def test_gaussian_log_prob():
    torch.manual_seed(4)
    q = Gaussian(torch.randn(5, 4), torch.randn(5, 4))
    z = torch.randn(5, 4)
    expected = Normal(q.mean, torch.exp(q.log_variance / 2)).log_prob(z).sum(1)
    torch.testing.assert_close(q.log_prob(z), expected)


def test_sample_has_the_mean_and_unit_variance_noise():
    torch.manual_seed(5)
    q = Gaussian(torch.full((20000, 1), 1.5), torch.full((20000, 1), -1.0))
    z = q.sample()
    assert z.mean().item() == pytest.approx(1.5, abs=0.02)
    assert z.var().item() == pytest.approx(torch.exp(torch.tensor(-1.0)).item(), rel=0.05)
