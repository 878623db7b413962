"""The models by name: of the paper a network and a prior each, and the baseline RecBole lacks."""

from __future__ import annotations

from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import OneLevelVAE, TwoLevelVAE
from recbole_evcf.model.wmf import WMF

__all__ = ["BASELINES", "MODELS", "GatedHVamp", "GatedMultiVAE", "GatedVamp", "HVamp", "Vamp"]


class GatedMultiVAE(VAERecommender):
    """Mult-VAE (Gated): one latent level, standard normal prior, gated hidden layers.

    With ``gated: False`` it is the paper's own Mult-VAE (Liang et al. 2018).

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30], "gated": False}
    >>> result = recbole_evcf.run("GatedMultiVAE", "ml-100k", **small)
    >>> result["test_result"]["ndcg@10"] > 0
    True
    """

    network_class = OneLevelVAE
    vamp_prior = False


class Vamp(VAERecommender):
    """Vamp: one latent level, VampPrior.

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("Vamp", "ml-100k", **small)
    >>> result["test_result"]["ndcg@10"] > 0
    True
    """

    network_class = OneLevelVAE
    vamp_prior = True


class GatedVamp(Vamp):
    """Vamp with gated hidden layers: the gated column of the paper's Table 2.

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("GatedVamp", "ml-100k", **small)
    >>> result["test_result"]["ndcg@10"] > 0
    True
    """


class HVamp(VAERecommender):
    """H+Vamp: two latent levels, VampPrior on z2.

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("HVamp", "ml-100k", **small)
    >>> result["test_result"]["ndcg@10"] > 0
    True
    """

    network_class = TwoLevelVAE
    vamp_prior = True


class GatedHVamp(HVamp):
    """H+Vamp (Gated): the paper's final model.

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("GatedHVamp", "ml-100k", **small)
    >>> result["test_result"]["ndcg@10"] > 0
    True
    """


MODELS = (Vamp, HVamp, GatedMultiVAE, GatedVamp, GatedHVamp)
BASELINES = (WMF,)
