"""Measure each latent level: its KL term, its active units, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.inspection.latent import LatentModel, batches, history_batches
from recbole_evcf.inspection.quality import mean_and_error, per_user, rank
from recbole_evcf.model.gaussian import Gaussian

__all__ = ["ACTIVE", "level_kl", "logits_without", "marginal_kl", "replaced_levels", "unit_table"]

# Draws of z per user for the KL terms.
DRAWS = 8
# Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.2.
ACTIVE = 0.01


def level_kl(
    model: LatentModel, histories: Histories, users: Tensor
) -> tuple[pd.DataFrame, Tensor | None]:
    """Return the KL term of each level, estimated with draws of z (of z2 for both levels).

    Of the top level E_q[log q(z | x) - log p(z)], of the lower E_q(z2 | x)[KL(q(z1 | x, z2) ||
    p(z1 | z2))], the latter exact for each draw of z2.

    Args:
        model: the network.
        histories: the input histories.
        users: user ids, (users,), on the CPU.

    Returns:
        a column per level, in nats, a row per user; and the lower level's term by unit, mean over
        users, (latent,), or None of a network with one level.
    """
    terms, units = [], []
    for history in history_batches(histories, users):
        posterior = model.top_posterior(history)
        top, lower = [], []
        for _ in range(DRAWS):
            z = posterior.sample()
            top.append(posterior.log_prob(z) - model.top_log_prior(z))
            if model.hierarchical:
                given_z = _normal(model.lower_posterior(history, z)), _normal(model.lower_prior(z))
                lower.append(kl_divergence(*given_z))
        levels = [torch.stack(top).double().mean(0)]
        if lower:
            by_unit = torch.stack(lower).double().mean(0)
            levels.append(by_unit.sum(1))
            units.append(by_unit.sum(0).cpu())
        terms.append(torch.stack(levels, dim=1).cpu())
    table = pd.DataFrame(torch.cat(terms).numpy(), columns=list(model.levels))
    return table, torch.stack(units).sum(0) / len(users) if units else None


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
    posterior = Gaussian(posterior.mean.double(), posterior.log_variance.double())
    if components is None:
        return kl_divergence(_normal(posterior), Normal(0.0, 1.0)).mean(0)
    components = Gaussian(components.mean.double(), components.log_variance.double())
    total = torch.zeros(posterior.mean.shape[1], dtype=torch.float64)
    for users in batches(torch.arange(len(posterior.mean)), components.mean.numel()):
        q = Gaussian(posterior.mean[users], posterior.log_variance[users])
        z = q.sample()
        log_prior = _normal(components).log_prob(z[:, None]).logsumexp(1)
        total += (_normal(q).log_prob(z) - log_prior + np.log(len(components.mean))).sum(0)
    return total / len(posterior.mean)


def unit_table(level: str, means: Tensor, kl: Tensor) -> pd.DataFrame:
    """Return one row per unit, the most variable first.

    Columns: ``level``, ``unit`` (its place), ``variance``, ``active``, ``kl``. A unit is active
    where the variance over users of its posterior mean is above 0.01.

    Args:
        level: its name.
        means: posterior means, (users, latent).
        kl: mean KL term of each unit over users, (latent,), in nats.
    """
    table = pd.DataFrame({"level": level, "unit": np.arange(len(kl))})
    table["variance"] = means.double().var(0).numpy()
    table["active"] = table["variance"] > ACTIVE
    table["kl"] = kl.double().numpy()
    return table.sort_values(["variance", "unit"], ascending=[False, True], ignore_index=True)


def logits_without(model: LatentModel, replaced: str, history: HistoryBatch) -> Tensor:
    """Logits of a batch of histories with levels replaced by their prior's mean, (batch, items).

    The prior's mean of z1 is that of p(z1 | z2) at the z2 that is decoded with it, so that
    z1 then adds nothing to z2. Where z2 alone is replaced, z1 stays what the user's own z2 and
    history made it.

    Args:
        model: the network.
        replaced: ``nothing``, ``z``, ``z1``, ``z2`` or ``z1 and z2``.
        history: binary histories.
    """
    levels = dict(zip(model.levels, model.means(history)))
    names = replaced.split(" and ")
    top, lowest = model.levels[0], model.levels[-1]
    if top in names:
        levels[top] = model.top_prior_mean().expand_as(levels[top])
    if "z1" in names:
        levels[lowest] = model.lower_prior(levels[top]).mean
    return model.logits(*levels.values())


def replaced_levels(
    model: LatentModel,
    histories: Histories,
    phase: RankedPhase,
    users: Tensor,
    k: int,
    truncated: bool,
) -> pd.DataFrame:
    """Measure ranking and reconstruction when levels are replaced by their prior's mean.

    Args:
        model: the network.
        histories, phase, users, k: as of :func:`~recbole_evcf.inspection.quality.rank`.
        truncated: as of :func:`~recbole_evcf.inspection.quality.per_user`.

    Returns:
        a row per replacement: ``replaced``; ``ndcg`` and ``recall`` of the held-out interactions,
        means over users; ``log_likelihood`` of the input history, per interaction, in nats, mean
        over users; and each one's standard error, ``_se``.
    """
    rows = []
    names = ("nothing", "z1", "z2", "z1 and z2") if model.hierarchical else ("nothing", "z")
    for name in names:
        logits = partial(logits_without, model, name)
        ranking = rank(logits, histories, phase, users, k)
        metrics = per_user(ranking.hits, ranking.targets, truncated)
        metrics["log_likelihood"] = _log_likelihood(model, logits, histories, users)
        rows.append({"replaced": name, **mean_and_error(metrics)})
    return pd.DataFrame(rows)


def _log_likelihood(
    model: LatentModel,
    logits: Callable[[HistoryBatch], Tensor],
    histories: Histories,
    users: Tensor,
) -> np.ndarray:
    values = [
        (model.network.likelihood.log_prob(logits(batch), batch) / batch.lengths.clamp(min=1)).cpu()
        for batch in history_batches(histories, users)
    ]
    return torch.cat(values).double().numpy()


def _normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, (0.5 * gaussian.log_variance).exp(), validate_args=False)
