"""RecBole's own models under the split by users: trained on training users, scored from fold-in.

An adapter runs a model's constructor, which learns from the training interactions alone, and
exchanges the history that the model keeps for scoring: a held-out user then has the fold-in set.

:func:`scoring` makes that exchange on a view of a trained model, of ours too: users that came after
training are scored by the model's own ``full_sort_predict``, and the model stays as it is.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from recbole.model import general_recommender
from recbole.model.general_recommender import nceplrec
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from recbole_evcf.data.histories import Histories, HistoryBatch


class FoldIn(NamedTuple):
    """How a model of RecBole's takes part in the split by users.

    Attributes:
        show: ``show(model, histories)`` makes a model score the users of some histories.
        adapter: ``adapter(construct, model, config, dataset)`` runs the model's own constructor and
            makes it score from ``dataset.input_histories``; None where ``show`` does that.
        samples: whether it learns from interactions and sampled negatives.
        learned: what its constructor learns and RecBole does not count among its parameters.
        required: the only value of a config key with which it can score an unseen user.
    """

    show: Callable[[Any, Histories], None]
    adapter: Callable[[Callable, Any, Any, Any], None] | None = None
    samples: bool = False
    learned: tuple[str, ...] = ()
    required: Mapping[str, object] = {}

    def construct(self, construct: Callable, model: Any, config: Any, dataset: Any) -> None:
        """Run a model's constructor and make it score from the data set's input histories.

        Raises:
            ValueError: a key of the config has a value with which it cannot score unseen users.
        """
        for key, value in self.required.items():
            if config[key] not in (None, value):
                raise ValueError(
                    f"{config['model']} with {key}: {config[key]} cannot score a user it was not "
                    f"trained on; set {key}: {value}."
                )
        if self.adapter:
            self.adapter(construct, model, config, dataset)
        else:
            construct(model, config, dataset)
            self.show(model, dataset.input_histories)


def learns_from_samples(name: str) -> bool:
    """Whether a model learns from interactions and sampled negatives under the split by users."""
    return name in FOLD_IN_MODELS and FOLD_IN_MODELS[name].samples


def folds_in(model: nn.Module) -> bool:
    """Whether a model can score a user from a history."""
    return getattr(model, "folds_in", False) or type(model).__name__ in FOLD_IN_MODELS


def scoring(model: Any, histories: Histories) -> nn.Module:
    """A view of a trained model to which user id ``n`` is row ``n`` of ``histories``.

    The model itself is not changed, so that any number of threads may score with it.

    Args:
        model: one of ours, or a model of RecBole's that :data:`FOLD_IN_MODELS` names.
        histories: of the users, with a column for each item of the model.

    Raises:
        ValueError: the model is another one.
    """
    name = type(model).__name__
    view = view_of(model)
    if getattr(model, "folds_in", False):
        view._histories = histories.to(model.device)
    elif name in FOLD_IN_MODELS:
        FOLD_IN_MODELS[name].show(view, histories)
    else:
        reason = "has no way to score a user from a history"
        raise ValueError(f"{name} {reason}: recommend to the users of its data set.")
    return view


def view_of(model: nn.Module) -> Any:
    """A module of the same tensors in evaluation mode; what is set on it, or on its parts, the
    model does not get."""
    views: dict[Any, Any] = {part: object.__new__(type(part)) for part in model.modules()}
    for part, view in views.items():
        # Past nn.Module's bookkeeping, which is itself among the entries.
        vars(view).update(vars(part), training=False)
        for name in ("_parameters", "_buffers"):
            vars(view)[name] = copy.copy(vars(part)[name])
        vars(view)["_modules"] = {name: views.get(child) for name, child in part._modules.items()}
    return views[model]


def padded_columns(batch: HistoryBatch) -> Tensor:
    """Item columns by user, (batch, longest); ``n_items`` beyond a history's end."""
    return pad_sequence(batch.column.split(batch.lengths.tolist()), True, batch.n_items)


def _of_training_users(dataset: Any) -> Any:
    """A data set whose ``inter_matrix`` has no other rows, so that means over rows are theirs."""
    rows = np.unique(np.asarray(dataset.inter_feat[dataset.uid_field]))
    view = copy.copy(dataset)
    view.inter_matrix = lambda *args, **kwargs: dataset.inter_matrix(*args, **kwargs).tocsr()[rows]
    return view


def _input_matrix(histories: Histories) -> scipy.sparse.csr_matrix:
    """Histories as a matrix, (users, items), with a column for RecBole's padding item."""
    matrix = histories.matrix()
    padding = scipy.sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return scipy.sparse.hstack([padding, matrix], format="csr")


def _padded(histories: Histories) -> tuple[Tensor, Tensor]:
    """RecBole's item ids by user, (users, longest), 0 beyond a history's end; and the lengths."""
    batch = histories.rows(torch.arange(histories.shape[0]))
    return (padded_columns(batch) + 1) % (batch.n_items + 1), batch.lengths


# By family of models, what shows histories to them, and what their constructor needs.


def _show_rows(model: Any, histories: Histories) -> None:
    """Autoencoders ask for rows."""
    known, pad = histories.to(model.device), nn.functional.pad
    model.histories_shown = known
    model.get_rating_matrix = lambda users: pad(known.rows(users).dense(), (1, 0))


def _auto_encoder(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    # RecBole's padded matrix is never built.
    model.build_histroy_items = lambda dataset: None
    construct(model, config, dataset)
    _show_rows(model, dataset.input_histories)


def _show_to_cdae(model: Any, histories: Histories) -> None:
    """No user has a vector of its own."""
    _show_rows(model, histories)
    zeros = torch.zeros(histories.shape[0], model.embedding_size, device=model.device)
    model.h_user = nn.Embedding.from_pretrained(zeros)


def _cdae(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """A held-out user's own vector is zero: it cannot be known. Zero, it has no gradient."""
    _auto_encoder(construct, model, config, dataset)
    trained = dataset.inter_feat[dataset.uid_field]
    model.h_user.weight.data[np.setdiff1d(np.arange(dataset.user_num), trained)] *= 0


def _show_matrix(model: Any, histories: Histories) -> None:
    """Linear models multiply rows of a matrix by item-item weights."""
    model.interaction_matrix = _input_matrix(histories)


def _admm_slim(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    construct(model, config, _of_training_users(dataset))
    _show_matrix(model, dataset.input_histories)


def _show_neighbours(model: Any, histories: Histories) -> None:
    matrix = _input_matrix(histories)
    scores = matrix.dot(model.w)
    if type(model).__name__ == "AsymKNN":
        # Its normalisation of a score by the norms of the user's row and of the item's weights.
        row = np.power(np.sqrt(matrix.power(2).sum(axis=1)), 2 * model.beta)
        column = np.power(np.sqrt(model.w.power(2).sum(axis=1)), 2 * (1 - model.beta))
        scores = scores.tocoo()
        norms = np.asarray(row).ravel()[scores.row] * np.asarray(column).ravel()[scores.col] + 1e-6
        scores.data = np.power(scores.data / norms, model.q)
    model.interaction_matrix, model.pred_mat = matrix, scores.tocsr()


def _show_projected(model: Any, histories: Histories) -> None:
    users = _input_matrix(histories) @ model.projection
    items = model.item_embeddings
    model.user_embeddings = torch.from_numpy(users).to(items.device, items.dtype)


def _nce_plrec(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    remembering_projection(construct, model, config, _of_training_users(dataset))
    _show_projected(model, dataset.input_histories)


def remembering_projection(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """Run NCEPLRec's constructor and keep what it forgets: the projection of a history to the
    user's vector, (items, rank), as ``model.projection``."""
    original = nceplrec.randomized_svd

    def remembering(*args: Any, **kwargs: Any) -> Any:
        left, sigma, right = original(*args, **kwargs)
        model.projection = right.T * np.sqrt(sigma)
        return left, sigma, right

    nceplrec.randomized_svd = remembering
    try:
        construct(model, config, dataset)
    finally:
        nceplrec.randomized_svd = original


def _show_items(model: Any, histories: Histories) -> None:
    """These sum over the items of a history."""
    matrix, lengths = (part.to(model.device) for part in _padded(histories))
    model.history_item_matrix, model.history_lens = matrix, lengths
    model.mask_mat = (matrix > 0).float()
    if hasattr(model, "user_bias"):
        zeros = torch.zeros(len(lengths), device=model.device)
        model.user_bias = nn.Parameter(zeros, requires_grad=False)


def _item_history(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """Training asks for histories of training users only; a user's own bias changes no ranking."""
    matrix, lengths = _padded(dataset.input_histories)
    # RecBole's own is shuffled: what it draws, and so the weights drawn after it, would depend on
    # how many fold-in interactions there are.
    view = copy.copy(dataset)
    view.history_item_matrix = lambda: (matrix, (matrix > 0).float(), lengths)
    construct(model, config, view)


def _popularity(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """RecBole's Pop counts an item once per batch however often it occurs there, and sampled
    negatives too: all training interactions are counted here, and none while it trains."""
    construct(model, config, dataset)
    items = torch.as_tensor(dataset.inter_feat[dataset.iid_field])
    counts = items.bincount(minlength=dataset.item_num)
    model.item_cnt = counts[:, None].to(model.device)
    model.max_cnt = model.item_cnt.max(dim=0)[0]


_AUTO_ENCODER = FoldIn(_show_rows, _auto_encoder)
_DIFFUSION = FoldIn(_show_rows, _auto_encoder, required={"time-aware": False})
_KNN = FoldIn(_show_neighbours, required={"knn_method": "item"})
# By the name of RecBole's class, in recbole.model.general_recommender; those that are added, too.
FOLD_IN_MODELS = {
    **dict.fromkeys(("MultiVAE", "MultiDAE", "RecVAE", "MacridVAE", "RaCT"), _AUTO_ENCODER),
    "CDAE": FoldIn(_show_to_cdae, _cdae),
    **dict.fromkeys(("DiffRec", "LDiffRec"), _DIFFUSION),
    **dict.fromkeys(("EASE", "SLIMElastic"), FoldIn(_show_matrix)),
    "ADMMSLIM": FoldIn(_show_matrix, _admm_slim, learned=("item_similarity", "item_means")),
    **dict.fromkeys(("ItemKNN", "AsymKNN"), _KNN),
    "NCEPLRec": FoldIn(_show_projected, _nce_plrec, learned=("item_embeddings", "projection")),
    **dict.fromkeys(("FISM", "NAIS"), FoldIn(_show_items, _item_history, samples=True)),
    # Every user gets the same.
    "Pop": FoldIn(lambda model, histories: None, _popularity),
    "Random": FoldIn(lambda model, histories: None),
}
if not hasattr(general_recommender, "AsymKNN"):  # RecBole 1.2.0
    del FOLD_IN_MODELS["AsymKNN"]
