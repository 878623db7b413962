"""RecBole's own models under the split by users: trained on training users, scored from fold-in.

An adapter runs a model's constructor. What the model learns there comes from the training
interactions alone; the history that it keeps for scoring is then exchanged for the input
histories, in which a held-out user has the fold-in set.

:func:`scoring` makes that exchange on a view of a trained model, of ours too: users that came after
training are then scored by the model's own ``full_sort_predict``, and the model stays as it is.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse
import torch
from recbole.model import general_recommender
from torch import Tensor, nn

from recbole_evcf.data.histories import Histories

__all__ = [
    "ADAPTERS",
    "FOLD_IN_MODELS",
    "SAMPLING_MODELS",
    "add_adapter",
    "folds_in",
    "input_rating_matrix",
    "learned_matrices",
    "remembering_projection",
    "scoring",
    "view_of",
]

# The model's own constructor, which an adapter calls with the model, its config and its data set.
Construct = Callable[[Any, Any, Any], None]
# Lets a model score the users of some histories.
Show = Callable[[Any, Histories], None]


def input_rating_matrix(model: Any, users: Tensor) -> Tensor:
    """The dense input rows of some users, (batch, items), RecBole's padding item included."""
    return nn.functional.pad(model._input_histories.rows(users).dense(), (1, 0))


def _auto_encoder(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """Autoencoders ask for rows of the history: RecBole's padded matrix is never built."""
    _show_rows(model, dataset.input_histories.to(config["device"]))
    construct(model, config, dataset)


def _diffusion(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    if config["time-aware"]:
        raise ValueError(
            f"{config['model']} with time-aware: True weighs histories that it builds by itself "
            "and cannot be scored from a fold-in history; set time-aware: False."
        )
    _auto_encoder(construct, model, config, dataset)


def _cdae(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """A held-out user's own vector is zero: it cannot be known. Zero, it has no gradient."""
    _auto_encoder(construct, model, config, dataset)
    trained = torch.as_tensor(dataset.inter_feat[dataset.uid_field]).unique()
    with torch.no_grad():
        weight = model.h_user.weight
        known = torch.zeros(len(weight), 1, device=weight.device)
        known[trained.to(weight.device)] = 1
        weight.mul_(known)


def _linear(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """Item-item weights applied to rows of a matrix: the rows become the input histories."""
    construct(model, config, dataset)
    _show_matrix(model, dataset.input_histories)


def _admm_slim(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    with _training_rows_only(dataset):
        construct(model, config, dataset)
    _show_matrix(model, dataset.input_histories)


def _item_neighbours(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    if config["knn_method"] == "user":
        raise ValueError(
            f"{config['model']} with knn_method: user compares users seen in training and cannot "
            "score an unseen one; set knn_method: item."
        )
    construct(model, config, dataset)
    _show_neighbours(model, dataset.input_histories)


def _asymmetric(
    model: Any, matrix: scipy.sparse.csr_matrix, scores: scipy.sparse.spmatrix
) -> scipy.sparse.coo_matrix:
    # AsymKNN's normalisation of a score by the norms of the user's row and of the item's weights.
    row = np.power(np.sqrt(matrix.power(2).sum(axis=1)), 2 * model.beta)
    column = np.power(np.sqrt(model.w.power(2).sum(axis=1)), 2 * (1 - model.beta))
    scores = scores.tocoo()
    norms = np.asarray(row).ravel()[scores.row] * np.asarray(column).ravel()[scores.col] + 1e-6
    values = np.power(scores.data / norms, model.q)
    return scipy.sparse.coo_matrix((values, (scores.row, scores.col)), scores.shape)


def _nce_plrec(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """The user vectors are a projection of the histories."""
    with _training_rows_only(dataset):
        remembering_projection(construct, model, config, dataset)
    _show_projected(model, dataset.input_histories)


def remembering_projection(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """Run NCEPLRec's constructor and keep what it forgets: the projection of a history to the
    user's vector, (items, rank), as ``model.projection``."""
    module: Any = importlib.import_module("recbole.model.general_recommender.nceplrec")
    original = module.randomized_svd
    found: list[Any] = []

    def recording(*args: Any, **kwargs: Any) -> Any:
        found.append(original(*args, **kwargs))
        return found[0]

    module.randomized_svd = recording
    try:
        construct(model, config, dataset)
    finally:
        module.randomized_svd = original
    _, sigma, right = found[0]
    model.projection = right.T * np.sqrt(sigma)


def _item_history(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """Sums over the items of a history: the histories become the input histories.

    Training asks for those of training users only, and a user's own bias changes no ranking.
    """
    matrix, lengths = _padded(dataset.input_histories)
    # RecBole's own is shuffled: what it draws, and so the weights drawn after it, would depend on
    # how many fold-in interactions there are.
    dataset.history_item_matrix = lambda: (matrix, (matrix > 0).float(), lengths)
    try:
        construct(model, config, dataset)
    finally:
        del dataset.history_item_matrix


def _popularity(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    """RecBole's Pop counts an item once per batch however often it occurs there, and sampled
    negatives too: all training interactions are counted here, and none while it trains."""
    construct(model, config, dataset)
    items = torch.as_tensor(dataset.inter_feat[dataset.iid_field])
    counts = torch.bincount(items, minlength=dataset.item_num)
    model.item_cnt = counts[:, None].to(model.device)
    model.max_cnt = model.item_cnt.max(dim=0)[0]


def _as_it_is(construct: Construct, model: Any, config: Any, dataset: Any) -> None:
    construct(model, config, dataset)


@contextlib.contextmanager
def _training_rows_only(dataset: Any) -> Iterator[None]:
    """Let ``inter_matrix`` give rows of training users only: means over rows then are theirs."""
    rows = np.unique(np.asarray(dataset.inter_feat[dataset.uid_field]))
    original = dataset.inter_matrix
    dataset.inter_matrix = lambda *args, **kwargs: original(*args, **kwargs).tocsr()[rows]
    try:
        yield
    finally:
        del dataset.inter_matrix


def folds_in(model: nn.Module) -> bool:
    """Whether a model can score a user from a history."""
    return getattr(model, "folds_in", False) or type(model).__name__ in _SHOW


def scoring(model: Any, histories: Histories) -> nn.Module:
    """A view of a trained model to which user id ``n`` is row ``n`` of ``histories``.

    The model itself is not changed, so that any number of threads may score with it.

    Args:
        model: one of ours, or a model of RecBole's that :data:`ADAPTERS` names.
        histories: of the users, with a column for each item of the model.

    Raises:
        ValueError: the model is another one.
    """
    if not folds_in(model):
        raise ValueError(
            f"{type(model).__name__} has no way to score a user from a history: recommend to the "
            "users of its data set."
        )
    view = view_of(model)
    if getattr(model, "folds_in", False):
        view._histories = histories.to(model.device)
    else:
        _SHOW[type(model).__name__](view, histories)
    return view


def view_of(model: nn.Module) -> Any:
    """A module of the same tensors in evaluation mode; what is set on it, or on its parts, the
    model does not get."""
    views: dict[int, nn.Module] = {}

    def view(module: nn.Module | None) -> nn.Module | None:
        if module is None or id(module) in views:
            return views.get(id(module))
        made = views[id(module)] = object.__new__(type(module))
        # Past nn.Module's bookkeeping, which is itself among the entries.
        own = {name: copy.copy(module.__dict__[name]) for name in ("_parameters", "_buffers")}
        own["_modules"] = {name: view(part) for name, part in module._modules.items()}
        made.__dict__.update(module.__dict__, **own, training=False)
        return made

    return view(model)


def learned_matrices(model: nn.Module) -> dict[str, Any]:
    """What a model's constructor learned and RecBole does not count among its parameters."""
    return {name: getattr(model, name) for name in _LEARNED.get(type(model).__name__, ())}


def _show_rows(model: Any, histories: Histories) -> None:
    # In a constructor this runs before nn.Module's own, so past its bookkeeping.
    object.__setattr__(model, "_input_histories", histories)


def _show_to_cdae(model: Any, histories: Histories) -> None:
    """No user has a vector of its own."""
    _show_rows(model, histories.to(model.device))
    zeros = torch.zeros(histories.shape[0], model.embedding_size, device=model.device)
    model.h_user = nn.Embedding.from_pretrained(zeros)


def _show_on_device(model: Any, histories: Histories) -> None:
    _show_rows(model, histories.to(model.device))


def _show_matrix(model: Any, histories: Histories) -> None:
    model.interaction_matrix = _input_matrix(histories)


def _show_neighbours(model: Any, histories: Histories) -> None:
    matrix = _input_matrix(histories)
    scores = matrix.dot(model.w)
    if type(model).__name__ == "AsymKNN":
        scores = _asymmetric(model, matrix, scores)
    model.interaction_matrix, model.pred_mat = matrix, scores.tocsr()


def _show_projected(model: Any, histories: Histories) -> None:
    users = _input_matrix(histories) @ model.projection
    items = model.item_embeddings
    model.user_embeddings = torch.from_numpy(users).to(items.device, items.dtype)


def _show_items(model: Any, histories: Histories) -> None:
    matrix, lengths = _padded(histories)
    model.history_item_matrix = matrix.to(model.device)
    model.history_lens = lengths.to(model.device)
    model.mask_mat = (model.history_item_matrix > 0).float()
    if hasattr(model, "user_bias"):
        zeros = torch.zeros(len(lengths), device=model.device)
        model.user_bias = nn.Parameter(zeros, requires_grad=False)


def _show_nothing(model: Any, histories: Histories) -> None:
    """Every user gets the same."""


def _padded(histories: Histories) -> tuple[Tensor, Tensor]:
    """RecBole's item ids by user, (users, longest), 0 beyond a history's end; and the lengths."""
    batch = histories.rows(torch.arange(histories.shape[0]))
    matrix = torch.zeros(histories.shape[0], int(batch.lengths.max()), dtype=torch.long)
    matrix[batch.row, torch.arange(len(batch.row)) - batch.offsets[batch.row]] = batch.column + 1
    return matrix, batch.lengths


def _input_matrix(histories: Histories) -> scipy.sparse.csr_matrix:
    """Histories as a matrix, (users, items), with a column for RecBole's padding item."""
    matrix = histories.matrix()
    padding = scipy.sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return scipy.sparse.hstack([padding, matrix], format="csr")


# The adapter of a model and what shows it histories, by the name of RecBole's class; all are in
# recbole.model.general_recommender.
_MODELS = {
    "MultiVAE": (_auto_encoder, _show_on_device),
    "MultiDAE": (_auto_encoder, _show_on_device),
    "RecVAE": (_auto_encoder, _show_on_device),
    "MacridVAE": (_auto_encoder, _show_on_device),
    "RaCT": (_auto_encoder, _show_on_device),
    "CDAE": (_cdae, _show_to_cdae),
    "DiffRec": (_diffusion, _show_on_device),
    "LDiffRec": (_diffusion, _show_on_device),
    "EASE": (_linear, _show_matrix),
    "SLIMElastic": (_linear, _show_matrix),
    "ADMMSLIM": (_admm_slim, _show_matrix),
    "ItemKNN": (_item_neighbours, _show_neighbours),
    "AsymKNN": (_item_neighbours, _show_neighbours),
    "NCEPLRec": (_nce_plrec, _show_projected),
    "FISM": (_item_history, _show_items),
    "NAIS": (_item_history, _show_items),
    "Pop": (_popularity, _show_nothing),
    "Random": (_as_it_is, _show_nothing),
}
# RecBole 1.2.0 has no AsymKNN.
ADAPTERS = {
    name: adapter for name, (adapter, _) in _MODELS.items() if hasattr(general_recommender, name)
}
_SHOW: dict[str, Callable[[Any, Histories], None]] = {
    name: show for name, (_, show) in _MODELS.items()
}
_LEARNED = {
    "ADMMSLIM": ("item_similarity", "item_means"),
    "NCEPLRec": ("item_embeddings", "projection"),
}

# By name, those that are added later too.
FOLD_IN_MODELS = ADAPTERS.keys()
# These learn from interactions and sampled negatives; the others take users, or learn in the
# constructor.
SAMPLING_MODELS = {"FISM", "NAIS"}


def add_adapter(
    name: str,
    adapter: Callable[..., None],
    show: Show,
    samples: bool = False,
) -> None:
    """Add an adapter, see :func:`~recbole_evcf.hooks.models.register_fold_in`."""
    ADAPTERS[name], _SHOW[name] = adapter, show
    if samples:
        SAMPLING_MODELS.add(name)
    else:
        SAMPLING_MODELS.discard(name)
