"""Recommend to people a trained model has never seen, from a list of items each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_evcf.data.dataloader import SCORE_BYTES
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.model.fold_in import scoring, view_of
from recbole_evcf.model.models import item_vectors
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.wmf import WMF
from recbole_evcf.serving.saved_model import load_model
from recbole_evcf.serving.scores import (
    best_items,
    scores_of_histories,
    scores_of_users,
    scores_without_history,
)
from recbole_evcf.serving.user_histories import UserHistories, item_token, user_histories

__all__ = ["COLUMNS", "LatentVectors", "Recommender"]

COLUMNS = ("user", "item", "score", "rank", "from_prior")

# Enough users to keep a core busy.
MAX_USERS = 2048


class LatentVectors(NamedTuple):
    """Users' names, (users,), and latent vectors, the posterior means, (users, width).

    A model with two levels has z1 and z2 side by side.
    """

    users: np.ndarray
    z: np.ndarray


class Recommender:
    """A trained model that recommends to anyone of whom some items are known.

    Args:
        model: a trained general recommender of ours or of RecBole's, which stays as it is. Any
            number of threads may share the recommender.

    Raises:
        ValueError: the model is no general recommender.

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("Vamp", "ml-100k", **small)
    >>> recommender = recbole_evcf.Recommender.load(result["model_file"])
    >>> frame = recommender.recommend({"ann": ["50", "172", "181"], "ben": ["71"]}, k=2)
    >>> frame[["user", "rank"]].to_string(index=False, header=False).split()
    ['ann', '1', 'ann', '2', 'ben', '1', 'ben', '2']
    """

    def __init__(self, model: GeneralRecommender) -> None:
        if not isinstance(model, GeneralRecommender):
            raise ValueError(
                f"{type(model).__name__} ranks items by more than a user's interactions: only "
                "RecBole's general recommenders can be used here."
            )
        self.model: Any = view_of(model)
        self.catalogue: ItemCatalogue = model.item_catalogue
        self._prior_scores: Tensor | None = None

    @classmethod
    def load(cls, path: str, device: str | torch.device | None = None) -> Recommender:
        """Load a model file without the training data; no code of the file runs.

        Args:
            path: of a model of ours, or of one of RecBole's that can fold in, saved with
                recbole_evcf imported.
            device: such as "cpu"; by default where the model's config says.

        Raises:
            ValueError: there is no such file or device, or the file's model cannot.
        """
        return cls(load_model(path, device))

    @property
    def item_tokens(self) -> np.ndarray:
        """Original names of the items in the order of the model's columns, (items,)."""
        return self.catalogue.tokens

    @property
    def field_names(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Accepted names for the user and item columns: the data set's own, and short ones."""
        return (self.model.USER_ID, "user"), (self.model.ITEM_ID, "item")

    def histories(self, given: Any) -> UserHistories:
        """Read histories as :meth:`recommend` takes them; warn about what is left out."""
        known = user_histories(given, self.catalogue, *self.field_names)
        for remark in known.remarks if known is not given else ():
            warnings.warn(remark, stacklevel=3)
        return known

    def recommend(
        self,
        histories: Any,
        k: int = 20,
        *,
        exclude_seen: bool = True,
        allow: Iterable[str] | None = None,
        block: Iterable[str] = (),
    ) -> pd.DataFrame:
        """Return the best items for each user.

        Neither the order of a history nor an item's second mention changes anything. Items that
        the model does not know are left out, with a warning that names some. A user with no known
        item gets what the model recommends to anyone, with ``from_prior`` True: for the paper's
        models the prior's (see :func:`recbole_evcf.model.vae.prior_scores`), for others
        what they make of an empty history, or the most popular items where that is nothing.

        Args:
            histories: lists of item tokens, one for each user, who are then numbered from 0; a
                dict or Series of such lists; a DataFrame with an interaction in each row, its
                columns named ``user`` and ``item`` or as in the model's data set; or a matrix,
                (users, items), of NumPy, PyTorch or SciPy with the columns of
                :attr:`item_tokens`, in which whatever is not 0 is an interaction. Whole numbers
                stand for their digits as tokens.
            k: number of items for each user; all where fewer are left.
            exclude_seen: leave out the items of the user's history.
            allow: item tokens, if only these may be recommended.
            block: item tokens that may not be recommended.

        Returns:
            columns ``user``, ``item``, ``score``, ``rank`` (from 1) and ``from_prior``. A score is
            the model's own, a logit for the paper's models, and of the prior a log-probability.

        Raises:
            ValueError: an argument cannot be taken, such as a k below 1.
        """
        known = self.histories(histories)
        frames = self.recommend_in_batches(known, k, exclude_seen, allow, block)
        return pd.concat(list(frames), ignore_index=True)

    def recommend_in_batches(
        self,
        histories: UserHistories,
        k: int,
        exclude_seen: bool = True,
        allow: Iterable[str] | None = None,
        block: Iterable[str] = (),
    ) -> Iterator[pd.DataFrame]:
        """Yield what :meth:`recommend` returns, batch by batch; at least one frame.

        The arguments are checked at once, before the first batch is requested.
        """
        k = _checked(k, len(self.catalogue))
        left_out = np.isin(self.item_tokens, _tokens(block))
        if allow is not None:
            left_out |= ~np.isin(self.item_tokens, _tokens(allow))
        if left_out.all():
            raise ValueError("the lists of items leave none that the model could recommend.")
        nowhere = torch.from_numpy(left_out.nonzero()[0]).to(self.model.device)
        batches = self._batches(len(histories))
        return (self._frame(histories, rows, k, exclude_seen, nowhere) for rows in batches)

    def _batches(self, n_users: int) -> Iterator[slice]:
        """Return slices of the users to score at once, at least one."""
        step = int(np.clip(SCORE_BYTES // (4 * len(self.catalogue)), 1, MAX_USERS))
        return (slice(start, start + step) for start in range(0, max(n_users, 1), step))

    def _frame(
        self, histories: UserHistories, rows: slice, k: int, exclude_seen: bool, left_out: Tensor
    ) -> pd.DataFrame:
        matrix = histories.histories[rows]
        known = np.diff(matrix.indptr) > 0
        seen = self._batch(histories.seen[rows]) if exclude_seen else None
        ids = None if histories.model_ids is None else histories.model_ids[rows][known]
        best = best_items(self._scores(matrix, ids, known), seen, left_out, k)
        values, columns = (each.cpu().numpy() for each in best)
        found = np.isfinite(values)
        row, place = found.nonzero()
        tokens = self.item_tokens[columns[found]]
        content = histories.users[rows][row], tokens, values[found], place + 1, ~known[row]
        return pd.DataFrame(dict(zip(COLUMNS, content)))

    def _scores(
        self, matrix: scipy.sparse.csr_matrix, ids: Tensor | None, known: np.ndarray
    ) -> Tensor:
        """Return users' scores, (users, items); those not ``known`` get the prior's."""
        scores = self.scores_without_history().repeat(len(known), 1)
        if ids is not None and known.any():
            scores[known] = scores_of_users(self.model, ids)
        elif known.any():
            scores[known] = scores_of_histories(self.model, Histories(matrix[known]))
        return scores

    def _batch(self, matrix: scipy.sparse.csr_matrix) -> HistoryBatch:
        everyone = torch.arange(matrix.shape[0], device=self.model.device)
        return Histories(matrix).to(self.model.device).rows(everyone)

    def scores_without_history(self) -> Tensor:
        """Return all items' scores for a user with no known item, (items,); computed once."""
        if self._prior_scores is None:
            self._prior_scores = scores_without_history(self.model).to(self.model.device)
        return self._prior_scores

    def similar_items(self, token: str, k: int = 10) -> pd.DataFrame:
        """Return the items whose decoder vectors are most similar.

        Args:
            token: an item.
            k: how many others; all where there are fewer.

        Returns:
            columns ``item``, ``score``, the cosine of the two vectors, and ``rank`` from 1.

        Raises:
            ValueError: the model does not know the item, or has no decoder with item vectors.
        """
        places = np.flatnonzero(self.item_tokens == item_token(token))
        if not len(places):
            raise ValueError(f"the model does not know the item {token!r}.")
        vectors = torch.nn.functional.normalize(item_vectors(self.model))
        k = _checked(k, len(vectors) - 1)
        cosines = vectors @ vectors[places[0]]
        cosines[places[0]] = -torch.inf
        values, columns = (part.cpu().numpy() for part in cosines.topk(k))
        return pd.DataFrame(
            {"item": self.item_tokens[columns], "score": values, "rank": np.arange(1, k + 1)}
        )

    @torch.no_grad()
    def latent(self, histories: Any) -> LatentVectors:
        """Return latent vectors of users: the posterior means of z, or for WMF the user vectors.

        A user with no known item is encoded from an empty history.

        Args:
            histories: as of :meth:`recommend`.

        Raises:
            ValueError: the model has no latent vectors of users.
        """
        known = self.histories(histories)
        parts = [self._latent(known.histories[rows]) for rows in self._batches(len(known))]
        return LatentVectors(known.users, torch.cat(parts).cpu().numpy())

    def _latent(self, matrix: scipy.sparse.csr_matrix) -> Tensor:
        if isinstance(self.model, VAERecommender):
            return self.model.network.latent(self._batch(matrix))
        if isinstance(self.model, WMF):
            users = torch.arange(matrix.shape[0], device=self.model.device)
            view: Any = scoring(self.model, Histories(matrix))
            return view.user_vectors(users)
        raise ValueError(
            f"{type(self.model).__name__} has no latent vectors of users here; the paper's models "
            "and WMF have."
        )


def _checked(k: Any, most: int) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, not {k!r}.")
    return min(int(k), most)


def _tokens(given: Iterable[Any]) -> np.ndarray:
    if isinstance(given, str):
        raise ValueError(f"a list of item tokens is asked for, not the string {given!r}.")
    return np.array([item_token(token) for token in given], dtype=object)
