"""The item vectors of a decoder: what a user's last hidden layer is multiplied with."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.wmf import WMF

__all__ = ["item_vectors"]

# RecBole's decoders have a row for the padding item too.
_DECODERS = {
    "MultiVAE": lambda model: model.decoder[-1],
    "MultiDAE": lambda model: model.decoder[-1],
    "RecVAE": lambda model: model.decoder,
    "CDAE": lambda model: model.out_layer,
}


def item_vectors(model: nn.Module) -> Tensor:
    """Vectors of all items, (items, width).

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
