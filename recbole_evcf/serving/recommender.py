"""Recommend to people a trained model has never seen, from a list of items each."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_evcf.data.dataloader import SCORE_BYTES
from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.evaluator.ranking import TopItems, gains, top_k
from recbole_evcf.model.fold_in import folds_in, scoring, view_of
from recbole_evcf.model.last_layer import last_layer
from recbole_evcf.model.models import MODELS, item_vectors
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import prior_scores
from recbole_evcf.model.wmf import WMF
from recbole_evcf.serving.saved_model import load_model
from recbole_evcf.serving.user_histories import Fields, UserHistories, item_token, user_histories
from recbole_evcf.trainer.generators import drawing_apart

# Enough users to keep a core busy.
MAX_USERS = 2048
# So many are ranked in two stages, for which the weights are rounded first.
MANY_USERS = 256
# ADMMSLIM adds noise of up to 1e-5 to its scores: smaller differences mean nothing.
NOISE = 2e-5
# A process has one stream of random numbers.
_DRAWING = threading.Lock()


class Recommender:
    """A trained model that recommends to anyone of whom some items are known.

    Any number of threads may share it. Its attribute ``item_tokens``, (items,), has the original
    names of the items in the order of the model's columns.

    Args:
        model: a trained general recommender of ours or of RecBole's, which stays as it is; any
            other is a ``ValueError``.

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
        self.item_tokens: np.ndarray = self.catalogue.tokens
        self.field_names: Fields = (model.USER_ID, "user"), (model.ITEM_ID, "item")

    @classmethod
    def load(cls, path: str, device: str | torch.device | None = None) -> Recommender:
        """Load a model file as :func:`~recbole_evcf.serving.saved_model.load_model` does, without
        the training data and without running code of the file."""
        return cls(load_model(path, device))

    def histories(self, given: Any) -> UserHistories:
        """Read histories as :meth:`recommend` takes them; warn about what is left out."""
        known = user_histories(given, self.catalogue, self.field_names)
        for remark in known.remarks:
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
        item gets the items of :attr:`scores_without_history`, with ``from_prior`` True.

        Args:
            histories: lists of item tokens, one for each user, who are then numbered from 0; a
                dict or Series of such lists; a DataFrame with an interaction in each row, its
                columns named ``user`` and ``item`` or as in the model's data set; or a matrix,
                (users, items), of NumPy, PyTorch or SciPy with the columns of ``item_tokens``, in
                which whatever is not 0 is an interaction. Whole numbers stand for their digits.
            k: number of items for each user; all where fewer are left.
            exclude_seen: leave out the items of the user's history.
            allow: item tokens, if only these may be recommended.
            block: item tokens that may not be recommended.

        Returns:
            columns ``user``, ``item``, ``score``, ``rank`` (from 1) and ``from_prior``. A score is
            the model's own, a logit for the paper's models, and of the prior a log-probability.

        Raises:
            ValueError: an argument is wrong.
        """
        known = self.histories(histories)
        frames = self.recommend_in_batches(known, k, exclude_seen, allow, block)
        return pd.concat(frames, ignore_index=True)

    def recommend_in_batches(
        self,
        histories: UserHistories,
        k: int,
        exclude_seen: bool = True,
        allow: Iterable[str] | None = None,
        block: Iterable[str] = (),
    ) -> Iterator[pd.DataFrame]:
        """Check the arguments; yield what :meth:`recommend` returns in frames, at least one."""
        k = _at_most(k, len(self.catalogue))
        left_out = np.isin(self.item_tokens, _tokens(block))
        if allow is not None:
            left_out |= ~np.isin(self.item_tokens, _tokens(allow))
        if left_out.all():
            raise ValueError("the lists of items leave none that the model could recommend.")
        nowhere = torch.from_numpy(left_out.nonzero()[0]).to(self.model.device)
        top_items = None
        # Of few items all are scored.
        if len(histories) >= MANY_USERS and 2 * len(nowhere) < len(left_out):
            # Of the weights that the model has now.
            layer = last_layer(self.model)
            if layer and gains(layer.weight):
                top_items = TopItems(layer.weight, layer.bias, layer.score, nowhere)
        parts = (histories.part(rows) for rows in self._batches(len(histories)))
        return (self._frame(part, k, exclude_seen, nowhere, top_items) for part in parts)

    def _batches(self, n_users: int) -> Iterator[slice]:
        step = int(np.clip(SCORE_BYTES // (4 * len(self.catalogue)), 1, MAX_USERS))
        return (slice(start, start + step) for start in range(0, max(n_users, 1), step))

    def _frame(self, given: UserHistories, k: int, *how: Any) -> pd.DataFrame:
        known = np.diff(given.histories.indptr) > 0
        values, columns = torch.empty(len(known), k), torch.empty(len(known), k, dtype=torch.long)
        for group in (known, ~known):
            if group.any():
                found = self._top(given.part(group), group is known, k, *how)
                values[group], columns[group] = (each.cpu() for each in found)
        # NaN ranks first.
        if not (values[:, 0] < torch.inf).all():
            raise ValueError("the model's scores are not numbers: its training went astray.")
        row, place = values.isfinite().numpy().nonzero()
        items = self.item_tokens[columns.numpy()[row, place]]
        ranked = {"user": given.users[row], "item": items, "score": values.numpy()[row, place]}
        return pd.DataFrame({**ranked, "rank": place + 1, "from_prior": ~known[row]})

    @torch.no_grad()
    def _top(
        self,
        given: UserHistories,
        known: bool,
        k: int,
        exclude_seen: bool,
        nowhere: Tensor,
        top_items: TopItems | None,
    ) -> tuple[Tensor, Tensor]:
        """The best scores of users who all have a known item, or none, and their columns."""
        seen = Histories(given.seen).rows(torch.arange(len(given) if exclude_seen else 0))
        left_out = seen.row.to(self.model.device), seen.column.to(self.model.device)
        if known:
            model, ids = self._scoring(given)
            if top_items and (layer := last_layer(model)):
                return top_items(layer.hidden(ids), k, *left_out)
            scores = scores_of_users(model, ids)
        else:
            scores = self.scores_without_history.repeat(len(given), 1)
        scores[left_out] = -torch.inf
        scores[:, nowhere] = -torch.inf
        return top_k(scores, k)

    def _scoring(self, given: UserHistories) -> tuple[Any, Tensor]:
        """A model that scores some users, and their ids in it."""
        if given.model_ids is not None:
            return self.model, given.model_ids
        return scoring(self.model, Histories(given.histories)), torch.arange(len(given))

    @cached_property
    def scores_without_history(self) -> Tensor:
        """All items' scores for a user with no known item, (items,).

        For the paper's models they are the prior's, see :func:`prior_scores`; for another model
        those of an empty history if they differ between items, otherwise the items' numbers of
        training interactions.
        """
        model = self.model
        scores = torch.as_tensor(self.catalogue.counts, dtype=torch.get_default_dtype())
        if isinstance(model, VAERecommender):
            scores = prior_scores(model.network)
        elif folds_in(model):
            # NAIS has no history to attend to.
            with suppress(RuntimeError, IndexError):
                nobody = scipy.sparse.csr_matrix((1, len(self.catalogue)))
                of_model = scores_of_users(scoring(model, Histories(nobody)), torch.arange(1))[0]
                if of_model.isfinite().all() and of_model.max() - of_model.min() > NOISE:
                    scores = of_model
        return scores.to(model.device)

    def similar_items(self, token: str, k: int = 10) -> pd.DataFrame:
        """Return the k items whose decoder vectors are most similar, all where there are fewer.

        Returns:
            columns ``item``, ``score``, the cosine of the two vectors, and ``rank`` from 1.

        Raises:
            ValueError: the model does not know the item, or has no decoder with item vectors.
        """
        places = np.flatnonzero(self.item_tokens == item_token(token))
        if not len(places):
            raise ValueError(f"the model does not know the item {token!r}.")
        vectors = torch.nn.functional.normalize(item_vectors(self.model))
        k = _at_most(k, len(vectors) - 1)
        cosines = vectors @ vectors[places[0]]
        cosines[places[0]] = -torch.inf
        values, columns = (part.cpu().numpy() for part in cosines.topk(k))
        items, ranks = self.item_tokens[columns], np.arange(1, k + 1)
        return pd.DataFrame({"item": items, "score": values, "rank": ranks})

    @torch.no_grad()
    def latent(self, histories: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return users' names, (users,), and latent vectors, (users, width).

        These are the posterior means of z, z1 and z2 side by side for two levels, or for WMF the
        user vectors. A user with no known item is encoded from an empty history. Histories are as
        of :meth:`recommend`. A model without latent vectors of users is a ``ValueError``.
        """
        if not isinstance(self.model, (VAERecommender, WMF)):
            name = type(self.model).__name__
            raise ValueError(f"{name} has no latent vectors of users: take WMF or one of ours.")
        known, parts = self.histories(histories), []
        for rows in self._batches(len(known)):
            view: Any = scoring(self.model, Histories(known.histories[rows]))
            users = torch.arange(len(known.users[rows]), device=view.device)
            parts.append(view.user_vectors(users))
        return known.users, torch.cat(parts).cpu().numpy()


@torch.no_grad()
def scores_of_users(model: GeneralRecommender, users: Tensor) -> Tensor:
    """Return a model's own scores of users by id, (users,), for its items, (users, items).

    Models that draw noise draw the same for the same users. A model that cannot score all items
    at once is a ``ValueError``.
    """
    ours = type(model) in MODELS
    noise = nullcontext() if ours else drawing_apart(0, model.device)
    with nullcontext() if ours else _DRAWING, noise:
        try:
            scores = model.full_sort_predict({model.USER_ID: users.to(model.device)})
        except NotImplementedError:
            name = type(model).__name__
            raise ValueError(f"{name} cannot rank: it does not score all items at once.") from None
    # RecBole's linear models always compute on the CPU; its padding item is left out. Scores may be
    # a part of the model, and are written to.
    scores = scores.reshape(len(users), -1)[:, 1:]
    return scores.to(model.device, torch.get_default_dtype(), copy=not ours)


def _at_most(k: Any, most: int) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, not {k!r}.")
    return min(int(k), most)


def _tokens(given: Iterable[Any]) -> np.ndarray:
    if isinstance(given, str):
        raise ValueError(f"a list of item tokens is asked for, not the string {given!r}.")
    return np.array([item_token(token) for token in given], dtype=object)
