"""The VampPrior's components: whom each explains, and what it recommends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_evcf.inspection.latent import LatentModel, batches
from recbole_evcf.model.gaussian import LOG_2PI, Gaussian

__all__ = ["Assignment", "assign", "component_items", "component_table", "effective_number"]

TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Assignment:
    """Which components explain which users.

    Attributes:
        best: the component with the largest responsibility for each user, (users,).
        certainty: that responsibility, (users,).
        mean: the mean responsibility of each component over users, (K,).
    """

    best: np.ndarray
    certainty: np.ndarray
    mean: np.ndarray


def assign(posterior: Gaussian, components: Gaussian) -> Assignment:
    """Responsibilities of the components for whole posteriors.

    r_uk is proportional to exp(-KL(q(z | x_u) || q(z | u_k))): of all distributions over the
    components it makes the bound on the cross-entropy of posterior and mixture tightest. Only
    E_q[log q(z | u_k)] differs between the components of a user.

    Args:
        posterior: of the users, (users, latent).
        components: (K, latent).
    """
    best, certainty = [], []
    total = torch.zeros(len(components.mean), dtype=torch.float64)
    for users in batches(torch.arange(len(posterior.mean)), len(components.mean)):
        part = Gaussian(posterior.mean[users], posterior.log_variance[users])
        responsibility = expected_log_prob(part, components).softmax(1)
        largest, place = responsibility.max(1)
        best.append(place)
        certainty.append(largest)
        total += responsibility.sum(0)
    return Assignment(
        torch.cat(best).numpy(), torch.cat(certainty).numpy(), (total / len(posterior.mean)).numpy()
    )


def expected_log_prob(posterior: Gaussian, components: Gaussian) -> Tensor:
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
    """The perplexity of shares that sum to 1: exp of their entropy."""
    used = weights[weights > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def component_table(components: Gaussian, assignment: Assignment) -> pd.DataFrame:
    """A row per component, the one that explains most users first.

    Columns: ``component`` (its number k), ``users`` (whose posterior it explains best), ``share``
    (of all users), ``mean_responsibility``, and ``spread``, the mean over units of the standard
    deviation of q(z | u_k).
    """
    users = np.bincount(assignment.best, minlength=len(assignment.mean))
    table = pd.DataFrame(
        {
            "component": np.arange(len(users)),
            "users": users,
            "share": users / users.sum(),
            "mean_responsibility": assignment.mean,
            "spread": (0.5 * components.log_variance).exp().mean(1).numpy(),
        }
    )
    order = ["users", "mean_responsibility", "component"]
    return table.sort_values(order, ascending=[False, False, True], ignore_index=True)


def component_items(
    model: LatentModel, average: np.ndarray, items: np.ndarray, k: int
) -> pd.DataFrame:
    """The top items of every component, by probability and by what sets it apart.

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
    # Softmax can be 0 in single precision.
    usual = torch.from_numpy(average).clamp(min=TINY)
    tables = []
    for part in batches(torch.arange(len(model.components.mean)), len(items)):
        top = model.components.mean[part.to(model.components.mean.device)]
        decoded = model.probabilities(model.logits(*model.below(top))).cpu().double()
        distinction = decoded * (decoded.clamp(min=TINY) / usual).log()
        for by, score in (("probability", decoded), ("distinction", distinction)):
            tables.append(_top(model, part, by, score, decoded, usual, items, k))
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(["component", "by", "rank"], ignore_index=True)


def _top(model, part, by, score, decoded, usual, items, k) -> pd.DataFrame:
    place = score.topk(min(k, len(items)), dim=1).indices
    n = place.shape[1]
    probability = decoded.gather(1, place)
    pseudo_inputs = model.network.prior.pseudo_inputs.detach()[part.to(score.device)].clamp(0, 1)
    return pd.DataFrame(
        {
            "component": part.repeat_interleave(n).numpy(),
            "by": by,
            "rank": np.tile(np.arange(1, n + 1), len(part)),
            "item": items[place.flatten().numpy()],
            "probability": probability.flatten().numpy(),
            "lift": (probability / usual[place]).flatten().numpy(),
            "pseudo_input": pseudo_inputs.cpu().gather(1, place).flatten().numpy(),
        }
    )
