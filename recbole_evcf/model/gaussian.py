"""Diagonal Gaussian distributions over the latent variables."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Gaussian", "mixture_log_prob"]

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, exp(log_variance)) with a diagonal covariance; both tensors (batch, latent)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """One draw per row with unit-variance noise, differentiable (reparameterised)."""
        return self.mean + torch.randn_like(self.mean) * torch.exp(0.5 * self.log_variance)

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z) of each row, (batch, latent) -> (batch,)."""
        squares = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squares + self.log_variance + LOG_2PI).sum(-1)


def mixture_log_prob(z: Tensor, components: Gaussian) -> Tensor:
    """log of the uniform mixture of K diagonal Gaussians at each row of ``z``.

    The squared distances are expanded, ``z^2/v - 2 z m/v + m^2/v``, so that two matrix products
    take the place of a batch x K x latent tensor. Expanded, large terms cancel: with variances
    down to exp(-12) single precision would lose every digit, so this is done in double precision;
    it is a small share of the prior's cost, the pass of the pseudo-inputs being the large one.

    Args:
        z: (batch, latent).
        components: mean and log-variance (K, latent).

    Returns:
        (batch,), in the precision of ``z``.
    """
    with torch.autocast(z.device.type, enabled=False):
        wide = z.double()
        mean, log_variance = components.mean.double(), components.log_variance.double()
        precision = torch.exp(-log_variance)
        scaled = mean * precision
        constant = (mean * scaled + log_variance + LOG_2PI).sum(-1)
        # One product for both terms: (batch, 2 latent) x (2 latent, K).
        left = torch.cat([wide.square(), wide], dim=1)
        right = torch.cat([precision, -2 * scaled], dim=1)
        log_prob = -0.5 * torch.addmm(constant, left, right.T)
        return (log_prob.logsumexp(1) - math.log(len(mean))).to(z.dtype)
