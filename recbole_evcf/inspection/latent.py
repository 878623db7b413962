"""One interface to a network's latent levels, whether one or two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.likelihood import Bernoulli
from recbole_evcf.model.prior import StandardNormalPrior, VampPrior
from recbole_evcf.model.vae import TwoLevelVAE

__all__ = ["LatentModel", "batches", "history_batches"]

# The most that one matrix of batch x items or batch x components may occupy.
BATCH_BYTES = 64 * 2**20


def batches(users: Tensor, width: int) -> Iterator[Tensor]:
    """Split user ids into parts, so that a part x width matrix of doubles fits in memory."""
    return iter(users.split(max(1, BATCH_BYTES // (8 * width))))


def history_batches(histories: Histories, users: Tensor) -> Iterator[HistoryBatch]:
    """Yield users' histories in parts (ids on the CPU), on the histories' own device."""
    for part in batches(users, histories.shape[1]):
        yield histories.rows(part.to(histories.starts.device))


class LatentModel:
    """The distributions of a network in evaluation mode: no dropout.

    The level that has the prior is called the top one: z of a one-level network, z2 of a two-level
    one, whose lower level is z1. Call its methods under ``torch.no_grad``.

    Args:
        network: that of a :class:`~recbole_evcf.model.recommender.VAERecommender`.

    Attributes:
        components: the VampPrior's q(z | u_k), (K, latent); None of the standard normal prior.
        levels: names of the latent levels, from the top.

    Raises:
        ValueError: the prior is another one.
    """

    def __init__(self, network: Any):
        self.network = network.eval()
        self.hierarchical = isinstance(network, TwoLevelVAE)
        self.levels = ("z2", "z1") if self.hierarchical else ("z",)
        self.n_items = network.output.out_features
        # q(z | x) or q(z2 | x), of normalized histories.
        self._encoder = network.encoder_z2 if self.hierarchical else network.encoder
        if not isinstance(network.prior, (VampPrior, StandardNormalPrior)):
            raise ValueError(
                "inspect reads a VampPrior or the standard normal prior, no "
                f"{type(network.prior).__name__}."
            )
        with torch.no_grad():
            self.components: Gaussian | None = network.prior.components(self._encoder)

    def pseudo_inputs(self) -> Tensor:
        """Return the VampPrior's imaginary users, (K, items), from 0 to 1, on the CPU."""
        return self.network.prior.pseudo_inputs.detach().clamp(0, 1).cpu()

    def top_posterior(self, history: HistoryBatch) -> Gaussian:
        """Return q(z | x) or q(z2 | x) of a binary history batch."""
        return self._encoder(history.normalized())

    def lower_posterior(self, history: HistoryBatch, z2: Tensor) -> Gaussian:
        """Return q(z1 | x, z2)."""
        return self.network.encoder_z1(history.normalized(), z2)

    def lower_prior(self, z2: Tensor) -> Gaussian:
        """Return p(z1 | z2)."""
        return self.network.prior_z1(z2)

    def top_log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) or log p(z2) of each row, (batch,)."""
        return self.network.prior.log_prob(z, lambda pseudo_inputs: self.components)

    def top_prior_mean(self) -> Tensor:
        """Return the mean of p(z) or p(z2), (latent,)."""
        if self.components is None:
            return self.network.output.weight.new_zeros(self._encoder.head.mean.out_features)
        return self.components.mean.mean(0)

    def means(self, history: HistoryBatch) -> tuple[Tensor, ...]:
        """Return each level's posterior means, top first, (batch, latent); z1 given that of z2."""
        top = self.top_posterior(history).mean
        return (top, self.lower_posterior(history, top).mean) if self.hierarchical else (top,)

    def below(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the levels the prior expects where the top one is ``z``, (batch, latent) each."""
        return (z, self.lower_prior(z).mean) if self.hierarchical else (z,)

    def logits(self, *levels: Tensor) -> Tensor:
        """Return the decoder's logits, (batch, items), at latent vectors from the top."""
        return self.network.output(self.network.decoder(*reversed(levels)))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return p(item | z) under the likelihood: softmax, or sigmoid for the Bernoulli."""
        if self.network.likelihood is Bernoulli:
            return torch.sigmoid(logits)
        return torch.softmax(logits, dim=1)
