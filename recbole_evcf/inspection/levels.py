"""What each latent level carries: its KL term, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.inspection.buckets import mean_and_error
from recbole_evcf.inspection.latent import LatentModel, history_batches
from recbole_evcf.inspection.quality import per_user, rank
from recbole_evcf.inspection.units import gaussian_kl

__all__ = ["level_kl", "replaced_levels", "replacements"]

# Draws of z per user for the KL terms.
DRAWS = 8


def level_kl(
    model: LatentModel, histories: Histories, users: Tensor
) -> tuple[pd.DataFrame, Tensor | None]:
    """The KL term of each level, estimated with draws of z (of z2 for both levels).

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
        # (draws, levels, batch)
        draws, lower = [], []
        for _ in range(DRAWS):
            z = posterior.sample()
            draw = [posterior.log_prob(z) - model.top_log_prior(z)]
            if model.hierarchical:
                lower.append(gaussian_kl(model.lower_posterior(history, z), model.lower_prior(z)))
                draw.append(lower[-1].sum(1))
            draws.append(torch.stack(draw))
        terms.append(torch.stack(draws).double().mean(0).cpu())
        if lower:
            units.append(torch.stack(lower).double().mean(0).sum(0).cpu())
    table = pd.DataFrame(torch.cat(terms, dim=1).T.numpy(), columns=list(model.levels))
    return table, torch.stack(units).sum(0) / len(users) if units else None


def replacements(model: LatentModel) -> dict[str, Callable[[HistoryBatch], Tensor]]:
    """Logits of a batch of histories with levels put in the place of what a user's data say.

    The prior's mean of z1 is that of p(z1 | z2) at the z2 that is decoded beside it, so that
    z1 then adds nothing to z2. Where z2 alone is replaced, z1 stays what the user's own z2 and
    history made it.
    """

    def unknown(history: HistoryBatch) -> Tensor:
        # The same for everybody.
        top = model.top_prior_mean()[None]
        return model.logits(*model.below(top)).repeat(len(history), 1)

    def without_lower(history: HistoryBatch) -> Tensor:
        return model.logits(*model.below(model.means(history)[0]))

    def without_top(history: HistoryBatch) -> Tensor:
        top, lower = model.means(history)
        return model.logits(model.top_prior_mean().expand_as(top), lower)

    def nothing(history: HistoryBatch) -> Tensor:
        return model.logits(*model.means(history))

    if not model.hierarchical:
        return {"nothing": nothing, "z": unknown}
    return {"nothing": nothing, "z1": without_lower, "z2": without_top, "z1 and z2": unknown}


def replaced_levels(
    model: LatentModel,
    histories: Histories,
    phase: RankedPhase,
    users: Tensor,
    k: int,
    truncated: bool,
) -> pd.DataFrame:
    """What ranking and reconstruction come to when levels are replaced by their prior's mean.

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
    for name, logits in replacements(model).items():
        ranking = rank(logits, histories, phase, users, k)
        metrics = per_user(ranking.hits, ranking.targets, truncated)
        metrics["log_likelihood"] = _log_likelihood(model, logits, histories, users)
        row = {"replaced": name}
        for metric in metrics:
            row[metric], row[f"{metric}_se"] = mean_and_error(metrics[metric].to_numpy())
        rows.append(row)
    return pd.DataFrame(rows)


def _log_likelihood(model, logits, histories: Histories, users: Tensor) -> np.ndarray:
    values = []
    for history in history_batches(histories, users):
        value = model.network.likelihood.log_prob(logits(history), history)
        values.append((value / history.lengths.clamp(min=1)).cpu())
    return torch.cat(values).double().numpy()
