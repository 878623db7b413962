"""Score users by history with a model, and select each one's best items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import scipy.sparse
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.model.fold_in import folds_in, scoring
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import prior_scores
from recbole_evcf.trainer.generators import drawing_apart

__all__ = ["best_items", "scores_of_histories", "scores_of_users", "scores_without_history"]

# ADMMSLIM adds noise of up to 1e-5 to its scores: smaller differences mean nothing.
NOISE = 2e-5
# These draw no random numbers when they score; other models, such as a user's, may.
DRAW_NOTHING = {model.__name__ for model in (*MODELS, *BASELINES)} | {
    *("MultiVAE", "MultiDAE", "RecVAE", "RaCT", "CDAE", "EASE", "SLIMElastic", "ItemKNN"),
    *("AsymKNN", "NCEPLRec", "FISM", "NAIS", "Pop"),
}
# A process has one stream of random numbers.
_DRAWING = threading.Lock()


@torch.no_grad()
def scores_of_users(model: GeneralRecommender, users: Tensor) -> Tensor:
    """Return the model's own scores of users that it knows by id.

    Args:
        model: a general recommender of RecBole's or of ours.
        users: user ids, (batch,).

    Returns:
        (batch, items), the padding item left out.

    Raises:
        ValueError: the model cannot score all items at once.
    """
    with _same_draws(model):
        try:
            scores = model.full_sort_predict({model.USER_ID: users.to(model.device)})
        except NotImplementedError:
            raise ValueError(
                f"{type(model).__name__} does not score all items at once, which a ranking takes."
            ) from None
    # RecBole's linear models always compute on the CPU.
    return scores.reshape(len(users), -1)[:, 1:].to(model.device, torch.get_default_dtype())


@contextmanager
def _same_draws(model: GeneralRecommender) -> Iterator[None]:
    """Make models draw the same noise for the same users, and restore the generators."""
    if type(model).__name__ in DRAW_NOTHING:
        yield
        return
    with _DRAWING, drawing_apart(0, model.device):
        yield


def scores_of_histories(model: GeneralRecommender, histories: Histories) -> Tensor:
    """Return scores of unseen users, (users, items); none of the histories is empty."""
    return scores_of_users(scoring(model, histories), torch.arange(histories.shape[0]))


def scores_without_history(model: GeneralRecommender) -> Tensor:
    """Return scores for a person with no known item, (items,).

    These are the prior's for the paper's models, see :func:`prior_scores`. For another model they
    are those of an empty history if they differ between items, otherwise the items' numbers of
    training interactions.
    """
    if isinstance(model, VAERecommender):
        return prior_scores(model.network)
    if folds_in(model):
        # NAIS has no history to attend to.
        with suppress(RuntimeError, IndexError):
            nobody = Histories(scipy.sparse.csr_matrix((1, len(model.item_catalogue))))
            scores = scores_of_histories(model, nobody)[0]
            if scores.isfinite().all() and scores.max() - scores.min() > NOISE:
                return scores
    return torch.as_tensor(model.item_catalogue.counts, dtype=torch.get_default_dtype())


def best_items(
    scores: Tensor, seen: HistoryBatch | None, left_out: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Take the k items of the highest scores of each user.

    Args:
        scores: (batch, items); written to.
        seen: what is not recommended to each user, if anything.
        left_out: columns of items that are recommended to nobody.
        k: how many, at most the number of items.

    Returns:
        scores and columns, (batch, k), the best first; the score is -inf where a user has fewer
        than k items left.

    Raises:
        ValueError: a score is not a number.
    """
    if seen is not None:
        scores[seen.row, seen.column] = -torch.inf
    scores[:, left_out] = -torch.inf
    values, columns = scores.topk(k)
    # NaN would rank first.
    if (values.isnan() | (values == torch.inf)).any():
        raise ValueError("the model's scores are not numbers: its training went astray.")
    return values, columns
