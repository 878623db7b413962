"""The models by name: of the paper a network and a prior each, and the baseline RecBole lacks."""

from __future__ import annotations

from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import OneLevelVAE, TwoLevelVAE
from recbole_evcf.model.wmf import WMF

__all__ = ["BASELINES", "MODELS", "GatedHVamp", "GatedMultiVAE", "GatedVamp", "HVamp", "Vamp"]


class GatedMultiVAE(VAERecommender):
    """Mult-VAE (Gated): one latent level, standard normal prior, gated hidden layers.

    With ``gated: False`` it is the paper's own Mult-VAE (Liang et al. 2018).
    """

    network_class = OneLevelVAE
    vamp_prior = False


class Vamp(VAERecommender):
    """Vamp: one latent level, VampPrior."""

    network_class = OneLevelVAE
    vamp_prior = True


class GatedVamp(Vamp):
    """Vamp with gated hidden layers: the gated column of the paper's Table 2."""


class HVamp(VAERecommender):
    """H+Vamp: two latent levels, VampPrior on z2."""

    network_class = TwoLevelVAE
    vamp_prior = True


class GatedHVamp(HVamp):
    """H+Vamp (Gated): the paper's final model."""


MODELS = (Vamp, HVamp, GatedMultiVAE, GatedVamp, GatedHVamp)
BASELINES = (WMF,)
