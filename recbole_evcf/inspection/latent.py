"""Read a trained network: its latent levels, whether one or two, its gates and its rankings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.evaluator.metrics import top_hits
from recbole_evcf.model.gaussian import Gaussian, StandardNormalPrior, VampPrior, mixture_log_prob
from recbole_evcf.model.layers import GatedLayer
from recbole_evcf.model.likelihood import Bernoulli
from recbole_evcf.model.vae import TwoLevelVAE

__all__ = ["LatentModel", "Ranking", "gate_values", "level_kl", "rank"]

# The most that one matrix of batch x items or batch x components may occupy.
BATCH_BYTES = 64 * 2**20
# Draws of z per user for the KL terms.
DRAWS = 8


def batches(users: Tensor, width: int) -> Iterator[Tensor]:
    """Split user ids into parts, so that a part x width matrix of doubles fits in memory."""
    return iter(users.split(max(1, BATCH_BYTES // (8 * width))))


def history_batches(histories: Histories, users: Tensor) -> Iterator[HistoryBatch]:
    """Yield users' histories in parts (ids on the CPU), on the histories' own device."""
    return (histories.rows(part) for part in batches(users, histories.shape[1]))


def normal(gaussian: Gaussian, rows: Tensor | slice = slice(None)) -> Normal:
    """Return torch's distributions of the units of some rows."""
    stddev = (0.5 * gaussian.log_variance[rows]).exp()
    return Normal(gaussian.mean[rows], stddev, validate_args=False)


class LatentModel:
    """The distributions of a ``VAERecommender``'s network in evaluation mode, under ``no_grad``.

    The level that has the prior is called the top one: z, or z2 above z1.

    Attributes:
        components: of the prior, (K, latent): the VampPrior's q(z | u_k), or the one N(0, I).
        is_mixture: whether the prior is a VampPrior; it must be one or the standard normal.
        levels: names of the latent levels, from the top.
        encoder: q(z | x) or q(z2 | x), of normalized histories.
    """

    def __init__(self, network: Any):
        prior = network.prior
        kind = type(prior).__name__
        if not isinstance(prior, (VampPrior, StandardNormalPrior)):
            raise ValueError(f"inspect reads a VampPrior or the standard normal prior, no {kind}.")
        self.network = network.eval()
        self.is_mixture = isinstance(prior, VampPrior)
        self.hierarchical = isinstance(network, TwoLevelVAE)
        self.levels = ("z2", "z1") if self.hierarchical else ("z",)
        self.encoder = network.encoder_z2 if self.hierarchical else network.encoder
        zeros = torch.zeros_like(self.encoder.head.mean.bias)[None]
        with torch.no_grad():
            self.components = prior.components(self.encoder) or Gaussian(zeros, zeros)

    def means(self, history: HistoryBatch, replaced: Collection[str] = ()) -> tuple[Tensor, ...]:
        """Return each level's posterior means, top first, (batch, latent); z1 given that of z2.

        Levels in ``replaced`` are at their prior's mean: z1 at that of p(z1 | z2), so that it adds
        nothing to z2. Where z2 alone is, z1 stays what the user's own z2 and history made it.
        """
        x = history.normalized()
        top = own = self.encoder(x).mean
        if self.levels[0] in replaced:
            top = self.components.mean.mean(0).expand_as(own)
        if self.hierarchical and "z1" not in replaced:
            return top, self.network.encoder_z1(x, own).mean
        return self.below(top)

    def below(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the levels that the prior expects where the top one is ``z``, (batch, latent)."""
        return (z, self.network.prior_z1(z).mean) if self.hierarchical else (z,)

    def logits(self, *levels: Tensor) -> Tensor:
        """Return the decoder's logits, (batch, items), at latent vectors from the top."""
        return self.network.output(self.network.decoder(*reversed(levels)))

    def probabilities(self, *levels: Tensor) -> Tensor:
        """Return p(item | z) under the likelihood: softmax, or sigmoid for the Bernoulli."""
        logits = self.logits(*levels)
        return logits.sigmoid() if self.network.likelihood is Bernoulli else logits.softmax(1)


def level_kl(
    model: LatentModel, histories: Histories, users: Tensor
) -> tuple[pd.DataFrame, list[Tensor]]:
    """Return the KL term of each level, estimated with draws of z (of z2 for both levels).

    Of the top level E_q[log q(z | x) - log p(z)], of the lower E_q(z2 | x)[KL(q(z1 | x, z2) ||
    p(z1 | z2))]: by level and user, in nats; and of the lower level's units, (latent,), the mean
    over users, if there is such a level.
    """
    terms, units = [], []
    for history in history_batches(histories, users):
        x, network = history.normalized(), model.network
        posterior = model.encoder(x)
        draws = [posterior.sample() for _ in range(DRAWS)]
        top = [posterior.log_prob(z) - mixture_log_prob(z, model.components) for z in draws]
        levels = [torch.stack(top).double().mean(0)]
        if model.hierarchical:
            pairs = [(normal(network.encoder_z1(x, z)), normal(network.prior_z1(z))) for z in draws]
            units.append(torch.stack([kl_divergence(*pair) for pair in pairs]).double().mean(0))
            levels.append(units[-1].sum(1))
        terms.append(torch.stack(levels, dim=1).cpu())
    table = pd.DataFrame(torch.cat(terms).numpy(), columns=list(model.levels))
    return table, [torch.cat(units).mean(0).cpu()] if units else []


def gate_values(model: LatentModel, inputs: Iterable[HistoryBatch]) -> dict[str, pd.DataFrame]:
    """Measure the gates sigmoid(x V + c) while histories are encoded and decoded, at the means.

    By gated layer, in network order and under the name of its distribution, a row per history:
    ``mean`` over the layer's units, and the shares ``shut`` (below 0.1) and ``open`` (above 0.9).
    """
    distributions = {
        "encoder": "q(z | x)",
        "encoder_z2": "q(z2 | x)",
        "encoder_z1": "q(z1 | x, z2)",
        "prior_z1": "p(z1 | z2)",
        "decoder": "p(x | z1, z2)" if model.hierarchical else "p(x | z)",
    }
    modules = model.network.named_modules()
    layers = [(*path.partition(".")[::2], m) for path, m in modules if isinstance(m, GatedLayer)]
    layers_of = Counter(part for part, *_ in layers)

    def record(rows: list[Tensor], module: torch.nn.Module, args: tuple, output: Tensor) -> None:
        gate = torch.sigmoid(output.float())
        parts = (gate, (gate < 0.1).float(), (gate > 0.9).float())
        rows.append(torch.stack([part.mean(1) for part in parts], dim=1).cpu())

    found: dict[str, list[Tensor]] = {}
    with ExitStack() as hooks:
        for part, name, layer in layers:
            # The module's name distinguishes a distribution's layers if it has several.
            title = distributions[part] + (f" {name}" if layers_of[part] > 1 else "")
            found[title] = []
            hooks.enter_context(layer.gate.register_forward_hook(partial(record, found[title])))
        for history in inputs if found else ():
            top, *lower = model.means(history)
            model.below(top)
            model.logits(top, *lower)
    columns = ["mean", "shut", "open"]
    tensors = {name: torch.cat(rows).double().numpy() for name, rows in found.items()}
    return {name: pd.DataFrame(values, columns=columns) for name, values in tensors.items()}


class Ranking(NamedTuple):
    """The top K of some users."""

    items: np.ndarray  # columns of the items, the best first, (users, K)
    hits: np.ndarray  # whether each is a held-out interaction of the user, (users, K)
    targets: np.ndarray  # number of held-out interactions, (users,)
    log_likelihood: np.ndarray  # of the input history, by interaction, in nats, (users,)


def rank(
    model: LatentModel, inputs: Histories, phase: RankedPhase, users: Tensor, k: int, replaced: str
) -> Ranking:
    """Rank all items but those seen before, for users, (users,), and look for the held-out ones.

    The input histories are on the network's device, ``phase`` and ``users`` on the CPU. Levels in
    ``replaced`` are at their prior's mean: ``nothing``, ``z``, ``z1``, ``z2``, ``z1 and z2``.
    """
    found = []
    for part in batches(users, inputs.shape[1]):
        history = inputs.rows(part)
        scores = model.logits(*model.means(history, replaced.split(" and ")))
        log_prob = model.network.likelihood.log_prob(scores, history) / history.lengths.clamp(min=1)
        scores, seen, positives = scores.cpu(), phase.seen.rows(part), phase.positives.rows(part)
        scores[seen.row, seen.column] = -torch.inf
        items, topk = top_hits(scores, k, positives.row, positives.column)
        found.append((items, topk[:, :-1].bool(), topk[:, -1], log_prob.double().cpu()))
    return Ranking(*(torch.cat(parts).numpy() for parts in zip(*found)))
