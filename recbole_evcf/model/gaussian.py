"""Diagonal Gaussians over the latent variables, and priors: normal and VampPrior (equation 4)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbole_evcf.data.histories import BatchShard, HistoryBatch
from recbole_evcf.model.dropout import clamp_and_drop

LOG_2PI = math.log(2 * math.pi)
# A component with less of a draw learns nothing from it that a weight could hold. What it would
# learn comes near the least numbers of single precision on its way back through the encoder, and
# with those Intel's processors are many times slower: an epoch could take seven times as long.
LEAST_RESPONSIBILITY = 1e-20


@dataclass(frozen=True)
class Gaussian:
    """N(mean, exp(log_variance)) with a diagonal covariance; both tensors (batch, latent)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, shard: BatchShard | None = None) -> Tensor:
        """One draw per row with unit-variance noise, differentiable (reparameterised); ``shard``
        says which rows of a larger batch these are."""
        # Drawn for the whole batch: what a row gets does not depend on how it is divided.
        total, rows = (len(self.mean), slice(None)) if shard is None else (shard.total, shard.rows)
        noise = torch.randn_like(self.mean.new_empty(total, self.mean.shape[1]))[rows]
        return self.mean + noise * torch.exp(0.5 * self.log_variance)

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z) of each row, (batch, latent) -> (batch,)."""
        squares = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squares + self.log_variance + LOG_2PI).sum(-1)


def mixture_log_prob(z: Tensor, components: Gaussian) -> Tensor:
    """log of the uniform mixture of K diagonal Gaussians at each row of ``z``.

    The squared distances are expanded, ``z^2/v - 2 z m/v + m^2/v``, so that two matrix products
    take the place of a batch x K x latent tensor. Expanded, large terms cancel: with variances
    down to exp(-12) single precision would lose every digit, so this is done in double precision.

    Args:
        z: (batch, latent); the result, (batch,), comes in its precision.
        components: mean and log-variance (K, latent).
    """
    with torch.autocast(z.device.type, enabled=False):
        return _MixtureLogProb.apply(z, components.mean, components.log_variance)


class _MixtureLogProb(torch.autograd.Function):
    """With r the responsibilities, (batch, K), and p the precisions, the gradients are sums over
    components or users of ``r p (z - m)`` and ``r p (z - m)^2``, again products of two matrices
    once expanded. Single precision is enough for the first: rounding is relative to ``z p``,
    some 1e-5 of the gradient even with the least variance, exp(-12)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        wide, m, v = z.double(), mean.double(), log_variance.double()
        precision = torch.exp(-v)
        scaled = m * precision
        constant = (m * scaled + v + LOG_2PI).sum(-1)
        # One product for both terms: (batch, 2 latent) x (2 latent, K).
        left = torch.cat([wide.square(), wide], dim=1)
        right = torch.cat([precision, -2 * scaled], dim=1)
        each = torch.addmm(constant, left, right.T).mul_(-0.5)
        total = each.logsumexp(1)
        responsibility = each.sub_(total[:, None]).exp_()
        torch.threshold_(responsibility, LEAST_RESPONSIBILITY, 0.0)
        ctx.save_for_backward(wide, m, precision, responsibility)
        ctx.dtype = z.dtype
        return (total - math.log(len(mean))).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, mean, precision, responsibility = ctx.saved_tensors
        weight = responsibility.mul_(grad[:, None])
        by_component = torch.cat([precision, mean * precision], dim=1).to(ctx.dtype)
        zeroth, first = (weight.to(ctx.dtype) @ by_component).chunk(2, dim=1)
        of_z = first - z.to(ctx.dtype) * zeroth
        first, second = (weight.T @ torch.cat([z, z.square()], dim=1)).chunk(2, dim=1)
        total = weight.sum(0)[:, None]
        of_mean = precision * (first - mean * total)
        squares = second - mean * (2 * first - mean * total)
        of_log_variance = 0.5 * (precision * squares - total)
        return of_z, of_mean.to(ctx.dtype), of_log_variance.to(ctx.dtype)


# Of rows of items, and where several processes divide them which rows of how many these are.
Posterior = Callable[..., Gaussian]


class Prior(nn.Module):
    """p(z), or p(z2) of two levels. A subclass gives :meth:`log_prob`."""

    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        """log p(z) of each row, (batch, latent) -> (batch,); ``posterior`` is the encoder q(z | x),
        clamp and dropout included, on rows of items."""
        raise NotImplementedError

    def components(self, posterior: Posterior) -> Gaussian | None:
        """Of a uniform mixture of Gaussians its components, (K, latent); None of another prior,
        for which z = 0 is used to recommend to a person without history."""
        return None


class StandardNormalPrior(Prior):
    """N(0, I)."""

    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        return -0.5 * (z.square() + LOG_2PI).sum(-1)


@dataclass(frozen=True)
class OwnRows:
    """The pseudo-inputs that one of several processes encodes and updates.

    Attributes:
        by_item: a copy of them, (items, own).
        shard: which of all K they are.
        gather: makes (K, width) of all processes' (own, width), with a gradient.
    """

    by_item: nn.Parameter
    shard: BatchShard
    gather: Callable[[Tensor], Tensor]


class VampPrior(Prior):
    """The mixture of the posteriors of K learned pseudo-inputs (Tomczak & Welling 2018),

    .. math:: p(z) = \\frac{1}{K} \\sum_{k=1}^K q(z | u_k).

    Args:
        pseudo_inputs: the u_k at the start, (K, items). The encoder clamps them to [0, 1].

    Attributes:
        own: while several processes train, what this one encodes.
    """

    own: OwnRows | None = None

    def __init__(self, pseudo_inputs: Tensor):
        super().__init__()
        # As (items, K), the faster order for their gradient (layers.py).
        self.by_item = nn.Parameter(pseudo_inputs.T.contiguous())

    def own_rows(self, shard: BatchShard, gather: Callable[[Tensor], Tensor]) -> OwnRows:
        """The share of one of several processes."""
        return OwnRows(nn.Parameter(self.by_item.detach()[:, shard.rows].clone()), shard, gather)

    @property
    def pseudo_inputs(self) -> Tensor:
        """The u_k as they are learned, unclamped, (K, items)."""
        return self.by_item.T

    def components(self, posterior: Posterior) -> Gaussian:
        """The K posteriors q(z | u_k): mean and log-variance (K, latent)."""
        if self.own is None:
            return posterior(self.pseudo_inputs)
        part = posterior(self.own.by_item.T, self.own.shard)
        both = self.own.gather(torch.cat([part.mean, part.log_variance], dim=1))
        return Gaussian(*both.chunk(2, dim=1))

    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        return mixture_log_prob(z, self.components(posterior))


class SparseVampPrior(VampPrior):
    """A VampPrior whose pseudo-inputs are learned on a few items each, and are 0 on the others.

    Args:
        items: the item columns of each, (K, size), -1 where it has fewer.
        values: the u_k there at the start, (K, size).
        n_items: number of item columns.
    """

    items: Tensor

    def __init__(self, items: Tensor, values: Tensor, n_items: int):
        Prior.__init__(self)
        self.n_items = n_items
        self.register_buffer("items", items)
        self.values = nn.Parameter(values)

    def batch(self) -> HistoryBatch:
        """The u_k, clamped to [0, 1], in the form of histories."""
        row, place = (self.items >= 0).nonzero(as_tuple=True)
        lengths = (self.items >= 0).sum(1)
        values = clamp_and_drop(self.values[row, place][None], 0.0)[0]
        offsets = lengths.cumsum(0) - lengths
        return HistoryBatch(row, self.items[row, place], offsets, lengths, self.n_items, values)

    @property
    def pseudo_inputs(self) -> Tensor:
        """The u_k, clamped, (K, items)."""
        return self.batch().dense()

    def components(self, posterior: Posterior) -> Gaussian:
        return posterior(self.batch())
