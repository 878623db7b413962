"""Active latent units, and the KL term unit by unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_evcf.inspection.latent import batches
from recbole_evcf.model.gaussian import LOG_2PI, Gaussian

__all__ = ["ACTIVE", "gaussian_kl", "marginal_kl", "unit_table"]

# Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.2.
ACTIVE = 0.01


def unit_table(level: str, means: Tensor, kl: Tensor) -> pd.DataFrame:
    """A row per unit, the most variable first.

    Columns: ``level``, ``unit`` (its place), ``variance``, ``active``, ``kl``. A unit is active
    where the variance over users of its posterior mean is above 0.01.

    Args:
        level: its name.
        means: posterior means, (users, latent).
        kl: mean KL term of each unit over users, (latent,), in nats.
    """
    variance = means.double().var(0).numpy()
    table = pd.DataFrame(
        {
            "level": level,
            "unit": np.arange(len(variance)),
            "variance": variance,
            "active": variance > ACTIVE,
            "kl": kl.double().numpy(),
        }
    )
    return table.sort_values(["variance", "unit"], ascending=[False, True], ignore_index=True)


def gaussian_kl(left: Gaussian, right: Gaussian) -> Tensor:
    """KL(left || right) of each unit, (batch, latent), in nats."""
    ratio = (left.log_variance - right.log_variance).exp()
    squares = (left.mean - right.mean).square() * (-right.log_variance).exp()
    return 0.5 * (ratio + squares - 1 + right.log_variance - left.log_variance)


def marginal_kl(posterior: Gaussian, components: Gaussian | None) -> Tensor:
    """KL of each unit's posterior from the prior's marginal of that unit, mean over users.

    Of N(0, 1) exactly. A marginal of the VampPrior is a mixture of K Gaussians: there it is an
    estimate by one draw per user. Since the mixture ties its units together, the sum over units
    is not the KL term of the whole.

    Args:
        posterior: (users, latent).
        components: (K, latent); None for the standard normal prior.

    Returns:
        (latent,), in nats.
    """
    if components is None:
        normal = Gaussian(*torch.zeros(2, 1, 1, dtype=torch.float64))
        return gaussian_kl(_double(posterior), normal).mean(0)
    posterior, components = _double(posterior), _double(components)
    total = torch.zeros(posterior.mean.shape[1], dtype=torch.float64)
    for users in batches(torch.arange(len(posterior.mean)), components.mean.numel()):
        q = Gaussian(posterior.mean[users], posterior.log_variance[users])
        z = q.sample()
        each = _log_density(z[:, None], components)
        log_prior = each.logsumexp(1) - np.log(len(components.mean))
        total += (_log_density(z, q) - log_prior).sum(0)
    return total / len(posterior.mean)


def _log_density(z: Tensor, gaussian: Gaussian) -> Tensor:
    squares = (z - gaussian.mean).square() * (-gaussian.log_variance).exp()
    return -0.5 * (squares + gaussian.log_variance + LOG_2PI)


def _double(gaussian: Gaussian) -> Gaussian:
    return Gaussian(gaussian.mean.double(), gaussian.log_variance.double())
