"""Models whose scores of all items are an affine map of a last hidden layer, in two parts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from recbole.model import general_recommender
from torch import Tensor, nn

from recbole_evcf.model.fold_in import view_of
from recbole_evcf.model.layers import OutputLayer
from recbole_evcf.model.recommender import VAERecommender


class LastLayer(NamedTuple):
    """A model in two parts.

    Attributes:
        hidden: the last hidden layer of users by id, (batch,) -> (batch, width).
        score: scores of all items, RecBole's padding item first, (batch, width) -> (batch, items).
        weight: of these, (items - 1, width), without the padding item; bias: (items - 1,).
    """

    hidden: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]
    weight: Tensor
    bias: Tensor


# RecBole's that end in a linear decoder, or in a decoder whose last layer is linear. It has a row
# for the padding item too.
_DECODERS = ("MultiVAE", "MultiDAE", "RecVAE")


def last_layer(model: Any) -> LastLayer | None:
    """The two parts, with the weights that the model has now; None if its scores are not such."""
    if isinstance(model, VAERecommender):
        output = model.network.output
        if not _has(model, VAERecommender) or type(output) is not OutputLayer:
            return None
        return LastLayer(model.last_hidden, model.item_scores, output.weight, output.bias)
    name = type(model).__name__
    if name not in _DECODERS or not _has(model, getattr(general_recommender, name)):
        return None
    view = view_of(model)
    if isinstance(view.decoder, nn.Linear):
        layer, view.decoder = view.decoder, nn.Identity()
    else:
        layer, view.decoder[-1] = view.decoder[-1], nn.Identity()

    def hidden(users: Tensor) -> Tensor:
        return view.full_sort_predict({view.USER_ID: users}).view(len(users), -1)

    return LastLayer(hidden, layer, layer.weight[1:], layer.bias[1:])


def _has(model: Any, cls: Any) -> bool:
    """Whether a model scores as this class of its does."""
    own = type(model).full_sort_predict is cls.full_sort_predict
    return own and "full_sort_predict" not in vars(model)
