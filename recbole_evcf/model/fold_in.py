"""RecBole's own models under the split by users: trained on training users, scored from fold-in.

An adapter runs a model's constructor. What the model learns there comes from the training
interactions alone; the history that it keeps for scoring is then exchanged for the input
histories, in which a held-out user has the fold-in set.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

__all__ = [
    "ADAPTERS",
    "FOLD_IN_MODELS",
    "SAMPLING_MODELS",
    "input_rating_matrix",
]


def input_rating_matrix(model: nn.Module, users: Tensor) -> Tensor:
    """The dense input rows of some users, (batch, items), RecBole's padding item included."""
    return nn.functional.pad(model._input_histories.rows(users).dense(), (1, 0))


def _auto_encoder(construct, model, config, dataset) -> None:
    """Autoencoders ask for rows of the history: RecBole's padded matrix is never built."""
    # Before the module's own constructor, so past nn.Module's bookkeeping.
    histories = dataset.input_histories.to(config["device"])
    object.__setattr__(model, "_input_histories", histories)
    construct(model, config, dataset)


def _diffusion(construct, model, config, dataset) -> None:
    if config["time-aware"]:
        raise ValueError(
            f"{config['model']} with time-aware: True weighs histories that it builds by itself "
            "and cannot be scored from a fold-in history; set time-aware: False."
        )
    _auto_encoder(construct, model, config, dataset)


def _cdae(construct, model, config, dataset) -> None:
    """A held-out user's own vector is zero: it cannot be known. Zero, it has no gradient."""
    _auto_encoder(construct, model, config, dataset)
    trained = torch.as_tensor(dataset.inter_feat[dataset.uid_field]).unique()
    with torch.no_grad():
        weight = model.h_user.weight
        known = torch.zeros(len(weight), 1, device=weight.device)
        known[trained.to(weight.device)] = 1
        weight.mul_(known)


def _linear(construct, model, config, dataset) -> None:
    """Item-item weights applied to rows of a matrix: the rows become the input histories."""
    construct(model, config, dataset)
    model.interaction_matrix = _input_matrix(dataset)


def _admm_slim(construct, model, config, dataset) -> None:
    with _training_rows_only(dataset):
        construct(model, config, dataset)
    model.interaction_matrix = _input_matrix(dataset)


def _item_neighbours(construct, model, config, dataset) -> None:
    if config["knn_method"] == "user":
        raise ValueError(
            f"{config['model']} with knn_method: user compares users seen in training and cannot "
            "score an unseen one; set knn_method: item."
        )
    construct(model, config, dataset)
    matrix = _input_matrix(dataset)
    scores = matrix.dot(model.w)
    if config["model"] == "AsymKNN":
        scores = _asymmetric(model, matrix, scores)
    model.interaction_matrix, model.pred_mat = matrix, scores.tocsr()


def _asymmetric(model, matrix, scores):
    # AsymKNN's normalisation of a score by the norms of the user's row and of the item's weights.
    row = np.power(np.sqrt(matrix.power(2).sum(axis=1)), 2 * model.beta)
    column = np.power(np.sqrt(model.w.power(2).sum(axis=1)), 2 * (1 - model.beta))
    scores = scores.tocoo()
    norms = np.asarray(row).ravel()[scores.row] * np.asarray(column).ravel()[scores.col] + 1e-6
    values = np.power(scores.data / norms, model.q)
    return scipy.sparse.coo_matrix((values, (scores.row, scores.col)), scores.shape)


def _nce_plrec(construct, model, config, dataset) -> None:
    """The user vectors are a projection of the histories; the projection is kept for fold-in."""
    module = importlib.import_module("recbole.model.general_recommender.nceplrec")
    original, found = module.randomized_svd, []

    def recording(*args, **kwargs):
        found.append(original(*args, **kwargs))
        return found[0]

    module.randomized_svd = recording
    try:
        with _training_rows_only(dataset):
            construct(model, config, dataset)
    finally:
        module.randomized_svd = original
    _, sigma, right = found[0]
    users = _input_matrix(dataset) @ (right.T * np.sqrt(sigma))
    items = model.item_embeddings
    model.user_embeddings = torch.from_numpy(users).to(items.device, items.dtype)


def _item_history(construct, model, config, dataset) -> None:
    """Sums over the items of a history: the histories become the input histories.

    Training asks for those of training users only, and a user's own bias changes no ranking.
    """
    batch = dataset.input_histories.rows(torch.arange(dataset.user_num))
    shape = dataset.user_num, int(batch.lengths.max())
    matrix = torch.zeros(shape, dtype=torch.long)
    matrix[batch.row, torch.arange(len(batch.row)) - batch.offsets[batch.row]] = batch.column + 1
    # RecBole's own is shuffled: what it draws, and so the weights drawn after it, would depend on
    # how many fold-in interactions there are.
    dataset.history_item_matrix = lambda: (matrix, (matrix > 0).float(), batch.lengths)
    try:
        construct(model, config, dataset)
    finally:
        del dataset.history_item_matrix


def _popularity(construct, model, config, dataset) -> None:
    """RecBole's Pop counts an item once per batch however often it occurs there: count it all."""
    construct(model, config, dataset)
    items = torch.as_tensor(dataset.inter_feat[dataset.iid_field])
    counts = torch.bincount(items, minlength=dataset.item_num)
    model.item_cnt = counts[:, None].to(model.device)
    model.max_cnt = model.item_cnt.max(dim=0)[0]
    model.calculate_loss = lambda interaction: torch.zeros((), requires_grad=True)


def _as_it_is(construct, model, config, dataset) -> None:
    construct(model, config, dataset)


@contextlib.contextmanager
def _training_rows_only(dataset) -> Iterator[None]:
    """Let ``inter_matrix`` give rows of training users only: means over rows then are theirs."""
    rows = np.unique(np.asarray(dataset.inter_feat[dataset.uid_field]))
    original = dataset.inter_matrix
    dataset.inter_matrix = lambda *args, **kwargs: original(*args, **kwargs).tocsr()[rows]
    try:
        yield
    finally:
        del dataset.inter_matrix


def _input_matrix(dataset) -> scipy.sparse.csr_matrix:
    """The input histories, (users, items), with a column for RecBole's padding item."""
    matrix = dataset.input_histories.matrix()
    padding = scipy.sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return scipy.sparse.hstack([padding, matrix], format="csr")


# By the name of RecBole's class, all in recbole.model.general_recommender.
ADAPTERS = {
    "MultiVAE": _auto_encoder,
    "MultiDAE": _auto_encoder,
    "RecVAE": _auto_encoder,
    "MacridVAE": _auto_encoder,
    "RaCT": _auto_encoder,
    "CDAE": _cdae,
    "DiffRec": _diffusion,
    "LDiffRec": _diffusion,
    "EASE": _linear,
    "SLIMElastic": _linear,
    "ADMMSLIM": _admm_slim,
    "ItemKNN": _item_neighbours,
    "AsymKNN": _item_neighbours,
    "NCEPLRec": _nce_plrec,
    "FISM": _item_history,
    "NAIS": _item_history,
    "Pop": _popularity,
    "Random": _as_it_is,
}

FOLD_IN_MODELS = tuple(ADAPTERS)
# These learn from interactions and sampled negatives; the others take users, or learn in the
# constructor.
SAMPLING_MODELS = ("FISM", "NAIS")
