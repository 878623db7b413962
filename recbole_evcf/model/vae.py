"""The two networks of the paper: one level of latent variables, or two (equations 5 and 6).

Both have the same face: ``elbo_terms`` for training, and for scoring ``last_hidden``, the decoder's
last hidden layer at the posterior means, which ``output`` turns into the logits of all items.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf.data.histories import HistoryBatch
from recbole_evcf.model.encoder import HistoryEncoder, JointEncoder
from recbole_evcf.model.layers import LAYERS, GaussianHead, Layer, OutputLayer, hidden_layers
from recbole_evcf.model.likelihood import LIKELIHOODS, Multinomial
from recbole_evcf.model.prior import Prior
from recbole_evcf.model.settings import Settings

__all__ = ["OneLevelVAE", "TwoLevelVAE", "prior_scores"]

# Components of a prior decoded at once: together they take up this many scores.
SCORES_AT_ONCE = 2**24


class OneLevelVAE(nn.Module):
    """p(x | z) p(z) with q(z | x): Mult-VAE and Vamp.

    Args:
        settings: the validated config keys.
        n_items: number M of items.
        prior: p(z).
        layer: class of the hidden layers; by default what ``settings.gated`` says.
    """

    def __init__(self, settings: Settings, n_items: int, prior: Prior, layer: Layer | None = None):
        super().__init__()
        widths, latent = settings.mlp_hidden_size, settings.latent_dimension
        layer = layer or LAYERS[settings.gated]
        self.likelihood = LIKELIHOODS[settings.likelihood]
        self.prior = prior
        self.encoder = HistoryEncoder(n_items, widths, latent, layer, settings.dropout_prob)
        self.decoder = hidden_layers([latent, *reversed(widths)], layer)
        self.output = OutputLayer(widths[0], n_items)

    def elbo_terms(self, history: HistoryBatch) -> tuple[Tensor, Tensor]:
        """One-sample estimates of log p(x|z) and of KL(q(z|x) || p(z)), (batch,) each."""
        posterior = self.encoder(history.normalized())
        z = posterior.sample(history.shard)
        log_likelihood = self.likelihood.log_prob(self.output(self.decoder(z)), history)
        kl = posterior.log_prob(z) - self.prior.log_prob(z, self.encoder)
        return log_likelihood, kl

    def latent(self, history: HistoryBatch) -> Tensor:
        """The posterior mean of z, (batch, latent)."""
        return self.encoder(history.normalized()).mean

    def last_hidden(self, history: HistoryBatch) -> Tensor:
        """The decoder's last hidden layer at the posterior mean, (batch, hidden)."""
        return self.decoder(self.latent(history))


class TwoLevelVAE(nn.Module):
    """p(x | z1, z2) p(z1 | z2) p(z2) with q(z1 | x, z2) q(z2 | x): H+Vamp.

    Args:
        settings: the validated config keys.
        n_items: number M of items.
        prior: p(z2).
        layer: class of the hidden layers; by default what ``settings.gated`` says.
    """

    def __init__(self, settings: Settings, n_items: int, prior: Prior, layer: Layer | None = None):
        super().__init__()
        widths, latent = settings.mlp_hidden_size, settings.latent_dimension
        layer = layer or LAYERS[settings.gated]
        self.likelihood = LIKELIHOODS[settings.likelihood]
        self.prior = prior
        self.encoder_z2 = HistoryEncoder(n_items, widths, latent, layer, settings.dropout_prob)
        self.encoder_z1 = JointEncoder(n_items, widths, latent, layer, settings.dropout_prob)
        self.prior_z1 = nn.Sequential(
            hidden_layers([latent, *reversed(widths)], layer), GaussianHead(widths[0], latent)
        )
        self.decoder = JointDecoder(latent, widths[::-1], layer)
        self.output = OutputLayer(widths[0], n_items)

    def elbo_terms(self, history: HistoryBatch) -> tuple[Tensor, Tensor]:
        """One-sample estimates of log p(x|z1,z2) and of log q - log p of both levels, (batch,)."""
        x = history.normalized()
        posterior_z2 = self.encoder_z2(x)
        z2 = posterior_z2.sample(history.shard)
        posterior_z1 = self.encoder_z1(x, z2)
        z1 = posterior_z1.sample(history.shard)
        log_likelihood = self.likelihood.log_prob(self.output(self.decoder(z1, z2)), history)
        log_q = posterior_z1.log_prob(z1) + posterior_z2.log_prob(z2)
        log_p = self.prior_z1(z2).log_prob(z1) + self.prior.log_prob(z2, self.encoder_z2)
        return log_likelihood, log_q - log_p

    def latent(self, history: HistoryBatch) -> Tensor:
        """The posterior means of z1 (given the mean of z2) and z2, (batch, 2 latent)."""
        x = history.normalized()
        z2 = self.encoder_z2(x).mean
        return torch.cat([self.encoder_z1(x, z2).mean, z2], dim=1)

    def last_hidden(self, history: HistoryBatch) -> Tensor:
        """The decoder's last hidden layer at the posterior means, (batch, hidden)."""
        return self.decoder(*self.latent(history).chunk(2, dim=1))


class JointDecoder(nn.Module):
    """The hidden layers of p(x | z1, z2) in the published forms.

    With one layer, z1 and z2 are concatenated and meet one hidden layer. With L layers, each
    passes one of its own, and together L - 1 joint ones.

    Args:
        latent_dimension: width of z1 and of z2.
        widths: widths of the hidden layers, from the latent variables on.
        layer: class of the hidden layers.
    """

    def __init__(self, latent_dimension: int, widths: list[int], layer: Layer):
        super().__init__()
        self.shallow = len(widths) == 1
        if self.shallow:
            self.joint = hidden_layers([2 * latent_dimension, *widths], layer)
        else:
            self.first_z1 = hidden_layers([latent_dimension, widths[0]], layer)
            self.first_z2 = hidden_layers([latent_dimension, widths[0]], layer)
            self.joint = hidden_layers([2 * widths[0], *widths[1:]], layer)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """z1, z2 (batch, latent) -> (batch, widths[-1])."""
        if not self.shallow:
            z1, z2 = self.first_z1(z1), self.first_z2(z2)
        return self.joint(torch.cat([z1, z2], dim=1))


@torch.no_grad()
def prior_scores(network: OneLevelVAE | TwoLevelVAE) -> Tensor:
    """Scores of all items under the prior, (items,).

    The log of the items' mean probability over the prior's components, each decoded at its mean:

    .. math:: s_i = \\log \\frac{1}{K} \\sum_{k=1}^K p(i | \\mu_k).

    A VampPrior (equation 4) has K components, whose means mu_k are those of q(z | u_k); the
    standard normal prior is one of mean 0, as which any other is taken that has no components. With
    two levels, mu_k is of z2, and z1 is taken at the mean of p(z1 | z2). p(i | z) is the softmax of
    the logits for the multinomial likelihood and their sigmoid for the Bernoulli one.
    """
    means = _component_means(network)
    chunk = max(SCORES_AT_ONCE // network.output.out_features, 1)
    sums = [_log_probabilities(network, some).logsumexp(0) for some in means.split(chunk)]
    return torch.stack(sums).logsumexp(0) - math.log(len(means))


def _component_means(network: OneLevelVAE | TwoLevelVAE) -> Tensor:
    """Means of the components of the prior of z, or of z2, (K, latent)."""
    encoder = network.encoder_z2 if isinstance(network, TwoLevelVAE) else network.encoder
    components = network.prior.components(encoder)
    if components is not None:
        return components.mean
    weight = encoder.head.mean.weight
    return weight.new_zeros(1, len(weight))


def _log_probabilities(network: OneLevelVAE | TwoLevelVAE, z: Tensor) -> Tensor:
    """log p(i | z) of all items, (rows, items), at z, or z2, (rows, latent)."""
    if isinstance(network, TwoLevelVAE):
        hidden = network.decoder(network.prior_z1(z).mean, z)
    else:
        hidden = network.decoder(z)
    logits = network.output(hidden)
    if network.likelihood is Multinomial:
        return logits.log_softmax(1)
    return F.logsigmoid(logits)
