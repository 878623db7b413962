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
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from recbole.model import general_recommender
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from recbole_evcf.data.histories import Histories, HistoryBatch

__all__ = [
    "FOLD_IN_MODELS",
    "FoldIn",
    "folds_in",
    "learns_from_samples",
    "padded_columns",
    "remembering_projection",
    "scoring",
    "view_of",
]

# Called with the model's own constructor, the model, its config and its data set.
Adapter = Callable[[Callable, Any, Any, Any], None]
# Lets a model score the users of some histories.
Show = Callable[[Any, Histories], None]


class FoldIn(NamedTuple):
    """How a model of RecBole's takes part in the split by users, see
    :func:`~recbole_evcf.hooks.models.register_fold_in`.

    Attributes:
        learned: what its constructor learns and RecBole does not count among its parameters.
    """

    adapter: Adapter
    show: Show
    samples: bool = False
    learned: tuple[str, ...] = ()


def learns_from_samples(name: str) -> bool:
    """Whether a model learns from interactions and sampled negatives under the split by users;
    others take users, or learn in the constructor."""
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
    if not folds_in(model):
        raise ValueError(
            f"{type(model).__name__} has no way to score a user from a history: recommend to the "
            "users of its data set."
        )
    view = view_of(model)
    if getattr(model, "folds_in", False):
        view._histories = histories.to(model.device)
    else:
        FOLD_IN_MODELS[type(model).__name__].show(view, histories)
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


# Adapters


def _as_it_is(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    construct(model, config, dataset)


def _then(show: Show, run: Adapter = _as_it_is) -> Adapter:
    def adapter(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
        run(construct, model, config, dataset)
        show(model, dataset.input_histories)

    return adapter


def _refusing(key: str, value: object, instead: object, why: str, adapter: Adapter) -> Adapter:
    def checked(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
        if config[key] == value:
            raise ValueError(f"{config['model']} with {key}: {value} {why}; set {key}: {instead}.")
        adapter(construct, model, config, dataset)

    return checked


def _with_training_rows(adapter: Adapter) -> Adapter:
    """Let ``inter_matrix`` give rows of training users only: means over rows then are theirs."""

    def adapted(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
        rows = np.unique(np.asarray(dataset.inter_feat[dataset.uid_field]))
        original = dataset.inter_matrix
        of_training = lambda *args, **kwargs: original(*args, **kwargs).tocsr()[rows]  # noqa: E731
        with _replaced(dataset, "inter_matrix", of_training):
            adapter(construct, model, config, dataset)

    return adapted


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def _auto_encoder(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """Autoencoders ask for rows of the history: RecBole's padded matrix is never built."""
    model.build_histroy_items = lambda dataset: None
    _give_rows(model, dataset.input_histories.to(config["device"]))
    construct(model, config, dataset)


def _cdae(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """A held-out user's own vector is zero: it cannot be known. Zero, it has no gradient."""
    _auto_encoder(construct, model, config, dataset)
    trained = torch.as_tensor(dataset.inter_feat[dataset.uid_field]).unique()
    with torch.no_grad():
        weight = model.h_user.weight
        known = torch.zeros(len(weight), 1, device=weight.device)
        known[trained.to(weight.device)] = 1
        weight.mul_(known)


def remembering_projection(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """Run NCEPLRec's constructor and keep what it forgets: the projection of a history to the
    user's vector, (items, rank), as ``model.projection``."""
    module: Any = importlib.import_module("recbole.model.general_recommender.nceplrec")
    original = module.randomized_svd
    found: list[Any] = []

    def recording(*args: Any, **kwargs: Any) -> Any:
        found.append(original(*args, **kwargs))
        return found[0]

    with _replaced(module, "randomized_svd", recording):
        construct(model, config, dataset)
    _, sigma, right = found[0]
    model.projection = right.T * np.sqrt(sigma)


def _item_history(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """Sums over the items of a history: the histories become the input histories.

    Training asks for those of training users only, and a user's own bias changes no ranking.
    """
    matrix, lengths = _padded(dataset.input_histories)
    history = lambda: (matrix, (matrix > 0).float(), lengths)  # noqa: E731
    # RecBole's own is shuffled: what it draws, and so the weights drawn after it, would depend on
    # how many fold-in interactions there are.
    with _replaced(dataset, "history_item_matrix", history):
        construct(model, config, dataset)


def _popularity(construct: Callable, model: Any, config: Any, dataset: Any) -> None:
    """RecBole's Pop counts an item once per batch however often it occurs there, and sampled
    negatives too: all training interactions are counted here, and none while it trains."""
    construct(model, config, dataset)
    items = torch.as_tensor(dataset.inter_feat[dataset.iid_field])
    counts = torch.bincount(items, minlength=dataset.item_num)
    model.item_cnt = counts[:, None].to(model.device)
    model.max_cnt = model.item_cnt.max(dim=0)[0]


# What shows histories to a model


def _show_rows(model: Any, histories: Histories) -> None:
    _give_rows(model, histories.to(model.device))


def _give_rows(model: Any, histories: Histories) -> None:
    pad = nn.functional.pad
    model.get_rating_matrix = lambda users: pad(histories.rows(users).dense(), (1, 0))


def _show_to_cdae(model: Any, histories: Histories) -> None:
    """No user has a vector of its own."""
    _show_rows(model, histories)
    zeros = torch.zeros(histories.shape[0], model.embedding_size, device=model.device)
    model.h_user = nn.Embedding.from_pretrained(zeros)


def _show_matrix(model: Any, histories: Histories) -> None:
    """Item-item weights are applied to rows of a matrix."""
    model.interaction_matrix = _input_matrix(histories)


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
    return (padded_columns(batch) + 1) % (batch.n_items + 1), batch.lengths


def _input_matrix(histories: Histories) -> scipy.sparse.csr_matrix:
    """Histories as a matrix, (users, items), with a column for RecBole's padding item."""
    matrix = histories.matrix()
    padding = scipy.sparse.csr_matrix((matrix.shape[0], 1), dtype=matrix.dtype)
    return scipy.sparse.hstack([padding, matrix], format="csr")


_AUTO_ENCODER = FoldIn(_auto_encoder, _show_rows)
_WEIGHS = "weighs histories that it builds by itself and cannot be scored from a fold-in history"
_DIFFUSION = FoldIn(_refusing("time-aware", True, False, _WEIGHS, _auto_encoder), _show_rows)
_LINEAR = FoldIn(_then(_show_matrix), _show_matrix)
_COMPARES = "compares users seen in training and cannot score an unseen one"
_KNN = _refusing("knn_method", "user", "item", _COMPARES, _then(_show_neighbours))
_ADMM_SLIM = _with_training_rows(_then(_show_matrix))
_NCE_PLREC = _with_training_rows(_then(_show_projected, remembering_projection))

# By the name of RecBole's class, in recbole.model.general_recommender; those that are added, too.
FOLD_IN_MODELS = {
    **dict.fromkeys(("MultiVAE", "MultiDAE", "RecVAE", "MacridVAE", "RaCT"), _AUTO_ENCODER),
    "CDAE": FoldIn(_cdae, _show_to_cdae),
    **dict.fromkeys(("DiffRec", "LDiffRec"), _DIFFUSION),
    **dict.fromkeys(("EASE", "SLIMElastic"), _LINEAR),
    "ADMMSLIM": FoldIn(_ADMM_SLIM, _show_matrix, learned=("item_similarity", "item_means")),
    **dict.fromkeys(("ItemKNN", "AsymKNN"), FoldIn(_KNN, _show_neighbours)),
    "NCEPLRec": FoldIn(_NCE_PLREC, _show_projected, learned=("item_embeddings", "projection")),
    **dict.fromkeys(("FISM", "NAIS"), FoldIn(_item_history, _show_items, samples=True)),
    "Pop": FoldIn(_popularity, _show_nothing),
    "Random": FoldIn(_as_it_is, _show_nothing),
}
if not hasattr(general_recommender, "AsymKNN"):  # RecBole 1.2.0
    del FOLD_IN_MODELS["AsymKNN"]
