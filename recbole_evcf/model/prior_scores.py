"""What a model recommends to a person of whom nothing is known."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_evcf.model.likelihood import LIKELIHOODS
from recbole_evcf.model.vae import OneLevelVAE, TwoLevelVAE

__all__ = ["prior_scores"]

# Components decoded at once: together they take up this many scores.
SCORES_AT_ONCE = 2**24


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
    sums = [_log_probabilities(network, part).logsumexp(0) for part in means.split(chunk)]
    return torch.stack(sums).logsumexp(0) - math.log(len(means))


def _component_means(network) -> Tensor:
    """Means of the components of the prior of z, or of z2, (K, latent)."""
    two_levels = isinstance(network, TwoLevelVAE)
    encoder = network.encoder_z2 if two_levels else network.encoder
    components = network.prior.components(encoder)
    if components is not None:
        return components.mean
    weight = encoder.head.mean.weight
    return weight.new_zeros(1, len(weight))


def _log_probabilities(network, z: Tensor) -> Tensor:
    """log p(i | z) of all items, (rows, items), at z, or z2, (rows, latent)."""
    if isinstance(network, TwoLevelVAE):
        hidden = network.decoder(network.prior_z1(z).mean, z)
    else:
        hidden = network.decoder(z)
    logits = network.output(hidden)
    if network.likelihood is LIKELIHOODS["multinomial"]:
        return logits.log_softmax(1)
    return F.logsigmoid(logits)
