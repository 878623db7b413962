"""The two networks of the paper: one level of latent variables, or two (equations 5 and 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf.config.keys import checked
from recbole_evcf.data.histories import BatchShard, HistoryBatch
from recbole_evcf.model.dropout import clamp_and_drop, drop_entries
from recbole_evcf.model.gaussian import Gaussian, Prior
from recbole_evcf.model.layers import (
    GatedLayer,
    GaussianHead,
    HistoryLinear,
    Input,
    Layer,
    Linear,
    OutputLayer,
    TanhLayer,
    hidden_layers,
)
from recbole_evcf.model.likelihood import LIKELIHOODS, Multinomial, sampled_items

# Components of a prior decoded at once: together they take up this many scores.
SCORES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Settings:
    """The models' keys, as :data:`recbole_evcf.config.keys.KEYS` describes them."""

    mlp_hidden_size: list[int]
    latent_dimension: int
    dropout_prob: float
    likelihood: str
    gated: bool
    n_pseudo_inputs: int
    pseudo_inputs_init: str
    pseudo_inputs_mean: float
    pseudo_inputs_std: float
    anneal_cap: float
    total_anneal_steps: int | None
    warmup_epochs: int | None
    sampled_softmax: int = 0
    sparse_input_gradient: bool = False
    pseudo_input_size: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read from a RecBole ``Config`` or a dict. A value that the models cannot take is a
        ``ValueError``, and so are two warm-up lengths."""
        values: dict[str, Any] = {f.name: checked(f.name, config[f.name]) for f in fields(cls)}
        if values["total_anneal_steps"] is not None and values["warmup_epochs"] is not None:
            raise ValueError(
                "total_anneal_steps and warmup_epochs are both set: give the warm-up length once, "
                "in steps or in epochs, and leave the other out (or ~ in YAML)."
            )
        if values["sampled_softmax"] and values["likelihood"] != "multinomial":
            raise ValueError(
                "sampled_softmax is a way to compute likelihood multinomial, not "
                f"{values['likelihood']}: leave it out."
            )
        return cls(**values)


class HistoryEncoder(nn.Module):
    """q(z | x): input dropout, one hidden layer per width, Gaussian head."""

    def __init__(self, settings: Settings, n_items: int, layer: Layer):
        super().__init__()
        widths = settings.mlp_hidden_size
        self.dropout_prob = settings.dropout_prob
        self.first = layer(lambda: HistoryLinear(n_items, widths[0]))
        self.rest = hidden_layers(widths, layer)
        self.head = GaussianHead(widths[-1], settings.latent_dimension)

    def forward(self, x: Input, shard: BatchShard | None = None) -> Gaussian:
        """A normalised batch of histories, or pseudo-inputs (rows, items), which are clamped to
        [0, 1], -> q(z | x), (rows, latent); ``shard`` says which of all pseudo-inputs these are."""
        p = self.dropout_prob if self.training else 0.0
        x = clamp_and_drop(x, p, shard) if isinstance(x, Tensor) else drop_entries(x, p)
        return self.head(self.rest(self.first(x)))


class JointEncoder(nn.Module):
    """q(z1 | x, z2) in the published forms: x (after dropout) and z2 pass a single hidden layer
    together; of L layers, one each apart and L - 1 together."""

    def __init__(self, settings: Settings, n_items: int, layer: Layer):
        super().__init__()
        widths, latent = settings.mlp_hidden_size, settings.latent_dimension
        self.dropout_prob = settings.dropout_prob
        self.shallow = len(widths) == 1
        if self.shallow:
            self.first = layer(lambda: HistoryLinear(n_items, widths[0], latent))
        else:
            self.first_x = layer(lambda: HistoryLinear(n_items, widths[0]))
            self.first_z2 = layer(lambda: Linear(latent, widths[0]))
            self.joint = hidden_layers([2 * widths[0], *widths[1:]], layer)
        self.head = GaussianHead(widths[-1], latent)

    def forward(self, x: HistoryBatch, z2: Tensor) -> Gaussian:
        """Normalised histories and z2, (batch, latent), -> q(z1 | x, z2)."""
        x = drop_entries(x, self.dropout_prob if self.training else 0.0)
        if self.shallow:
            return self.head(self.first(x, z2))
        return self.head(self.joint(torch.cat([self.first_x(x), self.first_z2(z2)], dim=1)))


class JointDecoder(nn.Module):
    """The hidden layers of p(x | z1, z2), of the same form as :class:`JointEncoder`, with the
    widths from the last to the first."""

    def __init__(self, settings: Settings, layer: Layer):
        super().__init__()
        widths = settings.mlp_hidden_size[::-1]
        # How many hidden layers z1 and z2 pass apart.
        apart = 1 if len(widths) > 1 else 0
        first = [settings.latent_dimension, *widths[:apart]]
        self.first_z1 = hidden_layers(first, layer)
        self.first_z2 = hidden_layers(first, layer)
        self.joint = hidden_layers([2 * first[-1], *widths[apart:]], layer)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """z1, z2 (batch, latent) -> (batch, mlp_hidden_size[0])."""
        return self.joint(torch.cat([self.first_z1(z1), self.first_z2(z2)], dim=1))


class VAE(nn.Module):
    """What both networks share: ``output`` leads from the decoder's last hidden layer to the logits
    of all items.

    Args:
        settings: the validated config keys.
        n_items: number M of items.
        prior: p(z), or p(z2) of two levels.
        layer: class of the hidden layers; by default what ``settings.gated`` says.
    """

    def __init__(self, settings: Settings, n_items: int, prior: Prior, layer: Layer | None = None):
        super().__init__()
        self.likelihood, self.negatives = LIKELIHOODS[settings.likelihood], settings.sampled_softmax
        self.prior = prior
        self.add_layers(settings, n_items, layer or (GatedLayer if settings.gated else TanhLayer))
        self.output = OutputLayer(settings.mlp_hidden_size[0], n_items)
        for each in self.modules():
            if isinstance(each, HistoryLinear):
                each.sparse_gradient = settings.sparse_input_gradient

    def add_layers(self, settings: Settings, n_items: int, layer: Layer) -> None:
        """Make encoder and decoder."""
        raise NotImplementedError

    def log_likelihood(self, hidden: Tensor, history: HistoryBatch) -> Tensor:
        """log p(x | z) given the decoder's last hidden layer, (batch, hidden) -> (batch,); in
        training an estimate from a sample of the items, if ``sampled_softmax`` says so."""
        if not (self.negatives and self.training):
            return self.likelihood.log_prob(self.output(hidden), history)
        items, shift, within = sampled_items(history, self.negatives)
        return self.likelihood.log_prob(self.output.of_items(hidden, items, shift), within)


class OneLevelVAE(VAE):
    """p(x | z) p(z) with q(z | x): Mult-VAE and Vamp."""

    def add_layers(self, settings: Settings, n_items: int, layer: Layer) -> None:
        self.encoder = HistoryEncoder(settings, n_items, layer)
        widths = [settings.latent_dimension, *reversed(settings.mlp_hidden_size)]
        self.decoder = hidden_layers(widths, layer)

    def elbo_terms(self, history: HistoryBatch) -> tuple[Tensor, Tensor]:
        """One-sample estimates of log p(x|z) and of KL(q(z|x) || p(z)), (batch,) each."""
        posterior = self.encoder(history.normalized())
        z = posterior.sample(history.shard)
        log_likelihood = self.log_likelihood(self.decoder(z), history)
        return log_likelihood, posterior.log_prob(z) - self.prior.log_prob(z, self.encoder)

    def latent(self, history: HistoryBatch) -> Tensor:
        """The posterior mean of z, (batch, latent)."""
        return self.encoder(history.normalized()).mean

    def last_hidden(self, history: HistoryBatch) -> Tensor:
        return self.decoder(self.latent(history))


class TwoLevelVAE(VAE):
    """p(x | z1, z2) p(z1 | z2) p(z2) with q(z1 | x, z2) q(z2 | x): H+Vamp."""

    def add_layers(self, settings: Settings, n_items: int, layer: Layer) -> None:
        self.encoder_z2 = HistoryEncoder(settings, n_items, layer)
        self.encoder_z1 = JointEncoder(settings, n_items, layer)
        latent, widths = settings.latent_dimension, settings.mlp_hidden_size[::-1]
        hidden = hidden_layers([latent, *widths], layer)
        self.prior_z1 = nn.Sequential(hidden, GaussianHead(widths[-1], latent))
        self.decoder = JointDecoder(settings, layer)

    def elbo_terms(self, history: HistoryBatch) -> tuple[Tensor, Tensor]:
        """One-sample estimates of log p(x|z1,z2) and of log q - log p of both levels, (batch,)."""
        x = history.normalized()
        q_z2 = self.encoder_z2(x)
        z2 = q_z2.sample(history.shard)
        q_z1 = self.encoder_z1(x, z2)
        z1 = q_z1.sample(history.shard)
        log_likelihood = self.log_likelihood(self.decoder(z1, z2), history)
        log_q = q_z1.log_prob(z1) + q_z2.log_prob(z2)
        log_p = self.prior_z1(z2).log_prob(z1) + self.prior.log_prob(z2, self.encoder_z2)
        return log_likelihood, log_q - log_p

    def latent(self, history: HistoryBatch) -> Tensor:
        """The posterior means of z1 (given the mean of z2) and z2, (batch, 2 latent)."""
        x = history.normalized()
        z2 = self.encoder_z2(x).mean
        return torch.cat([self.encoder_z1(x, z2).mean, z2], dim=1)

    def last_hidden(self, history: HistoryBatch) -> Tensor:
        return self.decoder(*self.latent(history).chunk(2, dim=1))


@torch.no_grad()
def prior_scores(network: OneLevelVAE | TwoLevelVAE) -> Tensor:
    """Scores of all items under the prior, (items,): the log of their mean probability over its
    components, each decoded at its mean,

    .. math:: s_i = \\log \\frac{1}{K} \\sum_{k=1}^K p(i | \\mu_k).

    A VampPrior (equation 4) has K components, whose means mu_k are those of q(z | u_k); a prior
    without components is taken at 0. With two levels, mu_k is of z2, and z1 is taken at the mean of
    p(z1 | z2). p(i | z) is the softmax of the logits (multinomial likelihood) or their sigmoid.
    """
    encoder = network.encoder_z2 if isinstance(network, TwoLevelVAE) else network.encoder
    components = network.prior.components(encoder)
    bias = encoder.head.mean.bias
    means = torch.zeros_like(bias)[None] if components is None else components.mean
    sums = []
    for z in means.split(max(SCORES_AT_ONCE // network.output.out_features, 1)):
        levels = (network.prior_z1(z).mean, z) if isinstance(network, TwoLevelVAE) else (z,)
        logits = network.output(network.decoder(*levels))
        multinomial = network.likelihood is Multinomial
        log_p = logits.log_softmax(1) if multinomial else F.logsigmoid(logits)
        sums.append(log_p.logsumexp(0))
    return torch.stack(sums).logsumexp(0) - math.log(len(means))
