"""The VampPrior's components, and the prior and the users in the plane of two dimensions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import MultivariateNormal

from recbole_evcf.inspection.latent import LatentModel, batches
from recbole_evcf.model.gaussian import LOG_2PI, Gaussian

__all__ = [
    "component_items",
    "component_table",
    "density_table",
    "effective_number",
    "fit_plane",
    "responsibilities",
]

TINY = torch.finfo(torch.float32).tiny
# Points of the grid along each axis, and its margin beyond the means in standard deviations.
GRID, REACH = 80, 3.0
# Components per block: a block takes a matrix of grid points x components.
CHUNK = 512


def responsibilities(
    posterior: Gaussian, components: Gaussian
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the responsibilities of the components for whole posteriors.

    r_uk is proportional to exp(-KL(q(z | x_u) || q(z | u_k))): of all distributions over the
    components it makes the bound on the cross-entropy of posterior and mixture tightest. Only
    E_q[log q(z | u_k)] differs between the components of a user.

    Args:
        posterior: of the users, (users, latent).
        components: (K, latent).

    Returns:
        the largest responsibility for each user, (users,); the component that has it, (users,);
        and the mean responsibility of each component over users, (K,).
    """
    largest = []
    total = torch.zeros(len(components.mean), dtype=torch.float64)
    for users in batches(torch.arange(len(posterior.mean)), len(components.mean)):
        part = Gaussian(posterior.mean[users], posterior.log_variance[users])
        responsibility = _expected_log_prob(part, components).softmax(1)
        largest.append(responsibility.max(1))
        total += responsibility.sum(0)
    certainty, best = (torch.cat(parts).numpy() for parts in zip(*largest))
    return certainty, best, (total / len(posterior.mean)).numpy()


def _expected_log_prob(posterior: Gaussian, components: Gaussian) -> Tensor:
    """E over each posterior of the log-density of each component, (users, K), in double precision.

    -1/2 sum over units of log(2 pi v_k) + ((m - m_k)^2 + v) / v_k; the square is expanded so that
    it takes matrix products.
    """
    mean, variance = posterior.mean.double(), posterior.log_variance.double().exp()
    centre, log_variance = components.mean.double(), components.log_variance.double()
    precision = (-log_variance).exp()
    constant = (centre.square() * precision + log_variance + LOG_2PI).sum(1)
    squares = (mean.square() + variance) @ precision.T
    return -0.5 * (squares - 2 * mean @ (centre * precision).T + constant)


def effective_number(weights: np.ndarray) -> float:
    """Return the perplexity of shares that sum to 1: exp of their entropy."""
    used = weights[weights > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def component_table(components: Gaussian, best: np.ndarray, mean: np.ndarray) -> pd.DataFrame:
    """Return one row per component, the one that explains most users first.

    Columns: ``component`` (its number k), ``users`` (whose posterior it explains best), ``share``
    (of all users), ``mean_responsibility``, and ``spread``, the mean over units of the standard
    deviation of q(z | u_k).

    Args:
        components: (K, latent).
        best, mean: of :func:`responsibilities`.
    """
    table = pd.DataFrame({"component": np.arange(len(mean))})
    table["users"] = np.bincount(best, minlength=len(mean))
    table["share"] = table["users"] / len(best)
    table["mean_responsibility"] = mean
    table["spread"] = (0.5 * components.log_variance).exp().mean(1).numpy()
    order = ["users", "mean_responsibility", "component"]
    return table.sort_values(order, ascending=[False, False, True], ignore_index=True)


def component_items(
    model: LatentModel, average: np.ndarray, items: np.ndarray, k: int
) -> pd.DataFrame:
    """Return the top items of every component, by probability and by what sets it apart.

    A component is decoded at the mean of q(z | u_k). Its most probable items are popular ones
    mostly. The share of an item in KL(p_k || average), p log(p / average), is large where an item
    is both probable and more so than for the average user.

    Args:
        model: with a VampPrior.
        average: mean over users of the items' probabilities, (items,).
        items: original item ids, (items,).
        k: how many items of each kind.

    Returns:
        columns ``component``, ``by`` (``probability`` or ``distinction``), ``rank``, ``item``,
        ``probability``, ``lift`` (over the average user's), ``pseudo_input`` (the item's value
        in u_k, from 0 to 1).
    """
    assert model.components is not None
    # Softmax can underflow to 0 in single precision.
    usual = torch.from_numpy(average).clamp(min=TINY)
    k = min(k, len(items))
    tables = []
    for part in batches(torch.arange(len(model.components.mean)), len(items)):
        top = model.components.mean[part.to(model.components.mean.device)]
        decoded = model.probabilities(model.logits(*model.below(top))).cpu().double()
        inputs = model.pseudo_inputs()[part]
        distinction = decoded * (decoded.clamp(min=TINY) / usual).log()
        for by, score in (("probability", decoded), ("distinction", distinction)):
            place = score.topk(k, dim=1).indices
            probability = decoded.gather(1, place)
            columns = {
                "component": part.repeat_interleave(k).numpy(),
                "by": by,
                "rank": np.tile(np.arange(1, k + 1), len(part)),
                "item": items[place.flatten().numpy()],
                "probability": probability.flatten().numpy(),
                "lift": (probability / usual[place]).flatten().numpy(),
                "pseudo_input": inputs.gather(1, place).flatten().numpy(),
            }
            tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(["component", "by", "rank"], ignore_index=True)


def fit_plane(means: np.ndarray) -> PCA:
    """The first two principal components of posterior means, (users, latent), at least 2 of each.

    The sign of an axis is chosen so that its largest entry is positive.
    """
    plane = PCA(2, svd_solver="full").fit(means)
    axes = plane.components_
    largest = np.abs(axes).argmax(1)
    axes *= np.where(axes[[0, 1], largest] < 0, -1, 1)[:, None]
    return plane


def density_table(plane: PCA, mixtures: dict[str, Gaussian]) -> pd.DataFrame:
    """The exact densities of mixtures of Gaussians, projected into the plane, on a common grid.

    A diagonal Gaussian of the latent space is a Gaussian in the plane: nothing is drawn.

    Args:
        plane: :func:`fit_plane`.
        mixtures: equally weighted components, (components, latent), by the name of their column.

    Returns:
        columns ``pc1``, ``pc2`` and one per mixture; the first axis runs slowest.
    """
    axes = torch.from_numpy(plane.components_)
    centre = torch.from_numpy(plane.mean_)
    projected = {}
    for name, mixture in mixtures.items():
        variance = mixture.log_variance.double().exp()
        covariance = torch.einsum("al,nl,bl->nab", axes, variance, axes)
        projected[name] = (mixture.mean.double() - centre) @ axes.T, covariance
    # Covers nearly all of every mixture.
    ends = []
    for mean, covariance in projected.values():
        variance = mean.var(0, correction=0) + covariance.diagonal(dim1=1, dim2=2).mean(0)
        ends += [mean.mean(0) - REACH * variance.sqrt(), mean.mean(0) + REACH * variance.sqrt()]
    bounds = torch.stack(torch.stack(ends).aminmax(dim=0), dim=1).tolist()
    ranges = [torch.linspace(low, high, GRID, dtype=torch.float64) for low, high in bounds]
    grid = torch.cartesian_prod(*ranges)
    densities = {name: _density(grid, *pair).numpy() for name, pair in projected.items()}
    return pd.DataFrame({"pc1": grid[:, 0].numpy(), "pc2": grid[:, 1].numpy(), **densities})


def _density(grid: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the mean over components of the Gaussian density at each grid point, (points,)."""
    total = torch.zeros(len(grid), dtype=torch.float64)
    for part in zip(mean.split(CHUNK), covariance.split(CHUNK)):
        total += MultivariateNormal(*part).log_prob(grid[:, None]).exp().sum(1)
    return total / len(mean)
