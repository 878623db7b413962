"""The named models: the paper's, each a network and a prior, and the baselines."""

from torch import Tensor, nn

from recbole_evcf.model.edlae import EDLAE
from recbole_evcf.model.linear_path import GatedHVampLinear
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import OneLevelVAE, TwoLevelVAE
from recbole_evcf.model.wmf import WMF


class GatedMultiVAE(VAERecommender):
    """Mult-VAE (Gated): one latent level, standard normal prior, gated hidden layers.

    With ``gated: False`` it is the paper's own Mult-VAE (Liang et al. 2018).

    >>> import recbole_evcf
    >>> recbole_evcf.run("GatedMultiVAE", "ml-100k", epochs=1)["test_result"]["ndcg@10"] > 0
    True
    """

    network_class = OneLevelVAE
    vamp_prior = False


class Vamp(VAERecommender):
    """Vamp: one latent level, VampPrior.

    >>> import recbole_evcf
    >>> recbole_evcf.run("Vamp", "ml-100k", epochs=1)["test_result"]["ndcg@10"] > 0
    True
    """

    network_class = OneLevelVAE
    vamp_prior = True


class GatedVamp(Vamp):
    """Vamp with gated hidden layers: the gated column of the paper's Table 2.

    >>> import recbole_evcf
    >>> recbole_evcf.run("GatedVamp", "ml-100k", epochs=1)["test_result"]["ndcg@10"] > 0
    True
    """


class HVamp(VAERecommender):
    """H+Vamp: two latent levels, VampPrior on z2.

    >>> import recbole_evcf
    >>> recbole_evcf.run("HVamp", "ml-100k", epochs=1)["test_result"]["ndcg@10"] > 0
    True
    """

    network_class = TwoLevelVAE
    vamp_prior = True


class GatedHVamp(HVamp):
    """H+Vamp (Gated): the paper's final model.

    >>> import recbole_evcf
    >>> recbole_evcf.run("GatedHVamp", "ml-100k", epochs=1)["test_result"]["ndcg@10"] > 0
    True
    """


NETWORKS = (Vamp, HVamp, GatedMultiVAE, GatedVamp, GatedHVamp, GatedHVampLinear)
BASELINES = (EDLAE, WMF)
MODELS = (*NETWORKS, *BASELINES)
# The field, for ``compare --models=best``: of RecBole's what does well by itself, and all of ours.
BEST = ("EASE", "ADMMSLIM", "RecVAE", "MultiVAE", *(m.__name__ for m in (*BASELINES, *NETWORKS)))
# RecBole's decoders have a row for the padding item too.
_DECODERS = {
    "MultiVAE": lambda model: model.decoder[-1],
    "MultiDAE": lambda model: model.decoder[-1],
    "RecVAE": lambda model: model.decoder,
    "CDAE": lambda model: model.out_layer,
}


def item_vectors(model: nn.Module) -> Tensor:
    """Vectors of all items, (items, width), which a user's last hidden layer is multiplied with.

    Raises:
        ValueError: the model has no decoder that ends in a linear layer.
    """
    if isinstance(model, VAERecommender):
        return model.network.output.weight.detach()
    if isinstance(model, WMF):
        return model.item_factors.detach()
    decoder = _DECODERS.get(type(model).__name__)
    if decoder is None:
        raise ValueError(
            f"{type(model).__name__} has no decoder with item vectors; the paper's models, WMF, "
            f"{', '.join(_DECODERS)} have one."
        )
    return decoder(model).weight.detach()[1:]
