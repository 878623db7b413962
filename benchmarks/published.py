"""The published formulation of the networks, written naively, to measure the fast one against.

Dense batches of histories, ``nn.Linear`` layers, every pair of a user's z and a mixture component
as a row of a batch x K x latent tensor, log-softmax over all items, a Python loop that scales each
gradient to unit norm, and Adam parameter by parameter. The mathematics are those of
``recbole_evcf.model`` (Kim & Suh 2019, equations 1 to 7) with the multinomial likelihood; the
modules carry the same names, so that weights and gradients can be compared one by one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)


class PublishedVAE(nn.Module):
    """Mult-VAE, Vamp or H+Vamp, gated or not.

    Args:
        n_items: number M of items.
        widths: widths of the hidden layers; their number is the depth L.
        latent: width of z, or of z1 and z2 each.
        gated: gated hidden layers (equation 7) instead of tanh.
        levels: 1, or 2 for H+Vamp.
        n_pseudo_inputs: K of the VampPrior (equation 4), or 0 for the standard normal prior.
        dropout_prob: dropout of the normalised input, and of the pseudo-inputs.
    """

    def __init__(
        self,
        n_items: int,
        widths: list[int],
        latent: int,
        *,
        gated: bool,
        levels: int,
        n_pseudo_inputs: int,
        dropout_prob: float = 0.5,
    ):
        super().__init__()
        self.levels, self.dropout_prob = levels, dropout_prob
        if n_pseudo_inputs:
            self.prior = nn.Module()
            start = torch.empty(n_pseudo_inputs, n_items).normal_(0.05, 0.01)
            self.prior.pseudo_inputs = nn.Parameter(start)
        if levels == 1:
            self.encoder = _Encoder(n_items, widths, latent, gated)
            self.decoder = _stack([latent, *reversed(widths)], gated)
        else:
            self.encoder_z2 = _Encoder(n_items, widths, latent, gated)
            self.encoder_z1 = _JointEncoder(n_items, widths, latent, gated)
            self.prior_z1 = nn.Sequential(
                _stack([latent, *reversed(widths)], gated), _Head(widths[0], latent)
            )
            self.decoder = _JointDecoder(latent, widths[::-1], gated)
        self.output = nn.Linear(widths[0], n_items)

    def loss_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean negative log-likelihood and mean KL estimate of binary histories (batch, items)."""
        normalised = F.normalize(x)
        logits, kl = (self._one_level if self.levels == 1 else self._two_levels)(normalised)
        log_likelihood = (x * F.log_softmax(logits, dim=1)).sum(1)
        return -log_likelihood.mean(), kl.mean()

    def _one_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(self._drop(x))
        z = _sample(mean, log_variance)
        kl = _log_normal(z, mean, log_variance) - self._log_prior(z, self.encoder)
        return self.output(self.decoder(z)), kl

    def _two_levels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean2, log_variance2 = self.encoder_z2(self._drop(x))
        z2 = _sample(mean2, log_variance2)
        mean1, log_variance1 = self.encoder_z1(self._drop(x), z2)
        z1 = _sample(mean1, log_variance1)
        log_q = _log_normal(z1, mean1, log_variance1) + _log_normal(z2, mean2, log_variance2)
        log_p = _log_normal(z1, *self.prior_z1(z2)) + self._log_prior(z2, self.encoder_z2)
        return self.output(self.decoder(z1, z2)), log_q - log_p

    def _log_prior(self, z: Tensor, encoder: nn.Module) -> Tensor:
        if not hasattr(self, "prior"):
            return _log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        pseudo_inputs = self.prior.pseudo_inputs.clamp(0, 1)
        mean, log_variance = encoder(self._drop(pseudo_inputs))
        each = _log_normal(z[:, None], mean[None], log_variance[None])
        return torch.logsumexp(each, dim=1) - math.log(len(mean))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout_prob, self.training)


class _Hidden(nn.Module):
    def __init__(self, n_in: int, n_out: int, gated: bool):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        if gated:
            self.gate = nn.Linear(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "gate"):
            return self.linear(x) * torch.sigmoid(self.gate(x))
        return torch.tanh(self.linear(x))


class _Head(nn.Module):
    def __init__(self, n_in: int, latent: int):
        super().__init__()
        self.mean = nn.Linear(n_in, latent)
        self.log_variance = nn.Linear(n_in, latent)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(h), self.log_variance(h).clamp(-12, 4)


class _Encoder(nn.Module):
    def __init__(self, n_items: int, widths: list[int], latent: int, gated: bool):
        super().__init__()
        self.first = _Hidden(n_items, widths[0], gated)
        self.rest = _stack(widths, gated)
        self.head = _Head(widths[-1], latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.rest(self.first(x)))


class _JointEncoder(nn.Module):
    def __init__(self, n_items: int, widths: list[int], latent: int, gated: bool):
        super().__init__()
        if len(widths) == 1:
            self.first = _Hidden(n_items + latent, widths[0], gated)
        else:
            self.first_x = _Hidden(n_items, widths[0], gated)
            self.first_z2 = _Hidden(latent, widths[0], gated)
            self.joint = _stack([2 * widths[0], *widths[1:]], gated)
        self.head = _Head(widths[-1], latent)

    def forward(self, x: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        if hasattr(self, "first"):
            return self.head(self.first(torch.cat([x, z2], dim=1)))
        return self.head(self.joint(torch.cat([self.first_x(x), self.first_z2(z2)], dim=1)))


class _JointDecoder(nn.Module):
    def __init__(self, latent: int, widths: list[int], gated: bool):
        super().__init__()
        if len(widths) == 1:
            self.joint = _stack([2 * latent, *widths], gated)
        else:
            self.first_z1 = _stack([latent, widths[0]], gated)
            self.first_z2 = _stack([latent, widths[0]], gated)
            self.joint = _stack([2 * widths[0], *widths[1:]], gated)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        if hasattr(self, "first_z1"):
            z1, z2 = self.first_z1(z1), self.first_z2(z2)
        return self.joint(torch.cat([z1, z2], dim=1))


def _stack(widths: list[int], gated: bool) -> nn.Sequential:
    return nn.Sequential(*(_Hidden(a, b, gated) for a, b in itertools.pairwise(widths)))


def _sample(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)


def _log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    squares = (z - mean) ** 2 / torch.exp(log_variance)
    return (-0.5 * (LOG_2PI + log_variance + squares)).sum(-1)


def dense_histories(histories, users: Tensor) -> Tensor:
    """Histories as the float32 users x items matrix that such scripts keep in memory.

    Args:
        histories: ``recbole_evcf.data.histories.Histories``.
        users: user ids, (users,).
    """
    return torch.from_numpy(histories.matrix()[users.numpy()].toarray())


def make_adam(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam as it was at the time: one parameter after the other, operation by operation."""
    parameters = model.parameters()
    return torch.optim.Adam(parameters, lr=learning_rate, foreach=False, fused=False)


def train_epoch(
    model: PublishedVAE,
    optimizer: torch.optim.Optimizer,
    matrix: Tensor,
    batch_size: int,
    kl_weight: float,
) -> float:
    """One epoch over the rows of ``matrix``, (users, items), in random order; the mean loss."""
    model.train()
    total = 0.0
    for users in torch.randperm(len(matrix)).split(batch_size):
        total += train_batch(model, optimizer, matrix[users], kl_weight) * len(users)
    return total / len(matrix)


def train_batch(
    model: PublishedVAE, optimizer: torch.optim.Optimizer, x: Tensor, kl_weight: float
) -> float:
    """One step on binary histories (batch, items), on gradients scaled to unit norm; the loss."""
    optimizer.zero_grad()
    reconstruction, kl = model.loss_terms(x)
    loss = reconstruction + kl_weight * kl
    loss.backward()
    for parameter in model.parameters():
        parameter.grad = parameter.grad / (parameter.grad.norm() + 1e-7)
    optimizer.step()
    return loss.item()


def copy_weights(model: PublishedVAE, network: nn.Module) -> None:
    """Give ``model`` the weights of a network of ours of the same architecture."""
    with torch.no_grad():
        for parameter, theirs, read in _pairs(model, network):
            parameter.copy_(read(theirs))


def compare(model: PublishedVAE, network: nn.Module, batch, seed: int = 0) -> dict[str, float]:
    """Loss and gradients of both on one batch, with the same weights and noise, without dropout.

    Args:
        model: takes over the weights of ``network``.
        network: a ``OneLevelVAE`` or ``TwoLevelVAE``; dropout must be 0 or the mode ``eval``.
        batch: the users' histories, a ``HistoryBatch``.
        seed: of the noise.

    Returns:
        ``loss``, the relative difference of reconstruction + KL; and of the parameter whose
        gradient differs most, ``gradient``: the norm of the difference over the norm.
    """
    copy_weights(model, network)
    model.train(network.training)
    for parameter in (*model.parameters(), *network.parameters()):
        parameter.grad = None
    torch.manual_seed(seed)
    log_likelihood, kl = network.elbo_terms(batch)
    ours = (kl - log_likelihood).mean()
    ours.backward()
    torch.manual_seed(seed)
    theirs = sum(model.loss_terms(batch.dense()))
    theirs.backward()
    gradients = [
        float((read(own.grad) - parameter.grad).norm() / parameter.grad.norm())
        for parameter, own, read in _pairs(model, network)
    ]
    loss = float((ours - theirs).detach().abs() / theirs.detach().abs())
    return {"loss": loss, "gradient": max(gradients)}


def _pairs(model: PublishedVAE, network: nn.Module) -> Iterator[tuple]:
    """(parameter, our parameter, how to read ours in the other's layout)."""
    from recbole_evcf.model.layers import HistoryLinear

    ours = dict(network.named_parameters())
    renamed = {"prior.pseudo_inputs": "prior.by_item"}
    # Held item by item, (items, out) and (items, K), where nn.Linear has (out, items).
    by_item = {"prior.by_item"} | {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, HistoryLinear)
    }
    for name, parameter in model.named_parameters():
        own = renamed.get(name, name)
        if own not in ours:
            raise ValueError(f"The network has no {own}, which the published formulation has.")
        yield parameter, ours.pop(own), torch.t if own in by_item else torch.Tensor.detach
    if ours:
        raise ValueError(f"The published formulation has no {', '.join(ours)}.")
