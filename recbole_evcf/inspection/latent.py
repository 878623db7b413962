"""A network's latent levels behind one interface, for one level and for two."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.likelihood import Bernoulli
from recbole_evcf.model.prior import StandardNormalPrior, VampPrior
from recbole_evcf.model.vae import OneLevelVAE, TwoLevelVAE

__all__ = ["LatentModel", "batches", "history_batches"]

# What one matrix of batch x items or batch x components may take up.
BATCH_BYTES = 64 * 2**20


def batches(users: Tensor, width: int) -> Iterator[Tensor]:
    """Parts of some user ids, so small that a matrix of doubles, part x width, fits in memory."""
    return iter(users.split(max(1, BATCH_BYTES // (8 * width))))


def history_batches(histories: Histories, users: Tensor) -> Iterator[HistoryBatch]:
    """The histories of some users (ids on the CPU), in parts, on the histories' own device."""
    for part in batches(users, histories.shape[1]):
        yield histories.rows(part.to(histories.starts.device))


class LatentModel:
    """The distributions of a network in evaluation mode: no dropout.

    The level that the prior stands on is called the top one: z of a one-level network, z2 of a
    two-level one, whose lower level is z1.

    Args:
        network: that of a :class:`~recbole_evcf.model.recommender.VAERecommender`.
    """

    def __init__(self, network: OneLevelVAE | TwoLevelVAE):
        self.network = network.eval()
        self.hierarchical = isinstance(network, TwoLevelVAE)
        self.levels = ("z2", "z1") if self.hierarchical else ("z",)
        self._encoder = network.encoder_z2 if self.hierarchical else network.encoder
        self.n_items = network.output.out_features
        self.components = self._components()

    @torch.no_grad()
    def _components(self) -> Gaussian | None:
        """The VampPrior's q(z | u_k), mean and log-variance (K, latent); None of another prior."""
        prior = self.network.prior
        if isinstance(prior, (VampPrior, StandardNormalPrior)):
            return prior.components(self._encoder)
        raise ValueError(
            f"inspect reads a VampPrior or the standard normal prior, no {type(prior).__name__}."
        )

    def pseudo_inputs(self) -> Tensor:
        """The VampPrior's imaginary users, (K, items), from 0 to 1, on the CPU."""
        return self.network.prior.pseudo_inputs.detach().clamp(0, 1).cpu()

    @torch.no_grad()
    def top_posterior(self, history: HistoryBatch) -> Gaussian:
        """q(z | x) or q(z2 | x) of a binary history batch."""
        return self._encoder(history.normalized())

    @torch.no_grad()
    def lower_posterior(self, history: HistoryBatch, z2: Tensor) -> Gaussian:
        """q(z1 | x, z2)."""
        return self.network.encoder_z1(history.normalized(), z2)

    @torch.no_grad()
    def lower_prior(self, z2: Tensor) -> Gaussian:
        """p(z1 | z2)."""
        return self.network.prior_z1(z2)

    @torch.no_grad()
    def top_log_prior(self, z: Tensor) -> Tensor:
        """log p(z) or log p(z2) of each row, (batch,)."""
        return self.network.prior.log_prob(z, lambda pseudo_inputs: self.components)

    def top_prior_mean(self) -> Tensor:
        """The mean of p(z) or p(z2), (latent,)."""
        if self.components is None:
            return self.network.output.weight.new_zeros(self._encoder.head.mean.out_features)
        return self.components.mean.mean(0)

    def means(self, history: HistoryBatch) -> tuple[Tensor, ...]:
        """The posterior means, a level each from the top, (batch, latent); z1 given that of z2."""
        top = self.top_posterior(history).mean
        return (top, self.lower_posterior(history, top).mean) if self.hierarchical else (top,)

    def below(self, z: Tensor) -> tuple[Tensor, ...]:
        """The levels that the prior expects where the top one is ``z``, (batch, latent) each."""
        return (z, self.lower_prior(z).mean) if self.hierarchical else (z,)

    @torch.no_grad()
    def logits(self, *levels: Tensor) -> Tensor:
        """The decoder's logits of all items, (batch, items), at latent vectors from the top."""
        return self.network.output(self.network.decoder(*reversed(levels)))

    def probabilities(self, logits: Tensor) -> Tensor:
        """p(item | z) under the likelihood: softmax, or of the Bernoulli the sigmoid."""
        if self.network.likelihood is Bernoulli:
            return torch.sigmoid(logits)
        return F.softmax(logits, dim=1)
