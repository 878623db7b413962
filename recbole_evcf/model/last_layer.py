"""Models whose scores of all items are an affine map of a last hidden layer, in two parts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from recbole.model import general_recommender
from torch import Tensor, nn

from recbole_evcf.data.histories import Histories, HistoryBatch
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


class SparseRows:
    """A batch of histories in the place of a dense matrix, (batch, items): what an autoencoder does
    to its input, and its first layer, without one.

    Args:
        history: the batch.
        tables: the first layer's weights as (items, width), which it keeps.
    """

    def __init__(self, history: HistoryBatch, tables: dict[int, Tensor]):
        self.history, self.tables = history, tables

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        x, *rest = args
        if function is F.normalize:
            return cls(x.history.normalized(), x.tables)
        # It is called in evaluation only.
        return x if function is F.dropout else x.sums_of_rows(*rest)

    def sums_of_rows(self, weight: Tensor, bias: Tensor) -> Tensor:
        """``F.linear`` of it."""
        if id(weight) not in self.tables:
            self.tables[id(weight)] = weight[:, 1:].T.contiguous()
        table, x = self.tables[id(weight)], self.history
        sums = F.embedding_bag(x.column, table, x.offsets, mode="sum", per_sample_weights=x.values)
        return sums + bias


def last_layer(model: Any, sparse: bool = False) -> LastLayer | None:
    """The two parts, with the weights that the model has now; None if its scores are not such.

    With ``sparse`` an autoencoder of RecBole's reads the histories that it is shown without a dense
    matrix, and the hidden layer is the same but for rounding.
    """
    if isinstance(model, VAERecommender):
        output = model.network.output
        if not _has(model, VAERecommender, "item_scores") or type(output) is not OutputLayer:
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
    known: Histories | None = getattr(model, "histories_shown", None)
    if sparse and known is not None:
        tables: dict[int, Tensor] = {}
        view.get_rating_matrix = lambda users: SparseRows(known.rows(users), tables)

    def hidden(users: Tensor) -> Tensor:
        return view.full_sort_predict({view.USER_ID: users}).view(len(users), -1)

    return LastLayer(hidden, layer, layer.weight[1:], layer.bias[1:])


def _has(model: Any, cls: Any, *names: str) -> bool:
    """Whether a model scores as this class of its does, with these methods too."""
    names = ("full_sort_predict", *names)
    same = all(getattr(type(model), name) is getattr(cls, name) for name in names)
    return same and vars(model).keys().isdisjoint(names)
