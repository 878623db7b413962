"""What the page and the API answer: items, users, and what each model recommends to a history."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from recbole_evcf.app.reasons import ItemWeights, NearestComponents
from recbole_evcf.serving.recommendation_files import shortest_decimals
from recbole_evcf.serving.recommender import Recommender
from recbole_evcf.serving.user_histories import UserHistories, item_token, user_histories
from recbole_evcf.utils.text import shown


@dataclass
class DataSetUsers:
    """The users of a data set, with what they are scored from and what is held out.

    Attributes:
        names: original ids of the users, (users,).
        items: original ids of the items, (items,).
        histories: what a model is shown of each user, a CSR matrix (users, items).
        held_out: the interactions of validation and test, in the same form.
    """

    names: np.ndarray
    items: np.ndarray
    histories: scipy.sparse.csr_matrix
    held_out: scipy.sparse.csr_matrix


class Viewer:
    """Models side by side. Any number of threads may share it.

    Args:
        models: recommenders by the names that are shown, at least one.
        titles: of items, by token; an item without one is shown by its token.
        users: of a data set, if they are to be looked at.

    Raises:
        ValueError: there is no model, or the scores of one are not numbers.
    """

    def __init__(
        self,
        models: Mapping[str, Recommender],
        titles: Mapping[str, str] | None = None,
        users: DataSetUsers | None = None,
    ) -> None:
        if not models:
            raise ValueError("there is no model to look at.")
        self.models, self.users = dict(models), users
        self._columns = {name: pd.Index(each.item_tokens) for name, each in models.items()}
        self._components = {
            name: NearestComponents(each)
            for name, each in models.items()
            if NearestComponents.explains(each)
        }
        self._weights = {
            name: ItemWeights(each.model)
            for name, each in models.items()
            if ItemWeights.explains(each.model)
        }
        counts: dict[str, float] = {}
        for each in models.values():
            for token, count in zip(each.item_tokens, each.catalogue.counts.tolist()):
                counts[token] = max(count, counts.get(token, 0))
        # The most popular items first.
        tokens = sorted(counts, key=lambda token: -counts[token])
        self._titles = {token: (titles or {}).get(token) or token for token in tokens}
        self._texts = [(_plain(f"{title} {token}"), token) for token, title in self._titles.items()]
        self._users = {} if users is None else {str(n): row for row, n in enumerate(users.names)}
        # A fault of a model is found before anybody asks.
        self.compare([], 1)

    def about(self) -> dict[str, Any]:
        """Return the models with their numbers of items, the numbers of all items and of the users
        who can be picked, and whether a model has weights between items."""
        models = [{"name": n, "items": len(each.item_tokens)} for n, each in self.models.items()]
        sizes = {"items": len(self._titles), "users": len(self._users)}
        return {"models": models, **sizes, "reasons": bool(self._weights)}

    def search(self, query: str, limit: int = 20) -> list[dict[str, Any]]:
        """Return items whose title or token has every word of a query, without regard to case and
        accents: one of that very token first, then those that begin so, the most popular first."""
        words, whole = _plain(query).split(), _plain(query).strip()
        found = [(text, token) for text, token in self._texts if all(w in text for w in words)]
        found.sort(key=lambda each: (each[1] != query.strip(), not each[0].startswith(whole)))
        return [self._item(token) for _, token in found[:limit]]

    def search_users(self, query: str, limit: int = 20) -> list[str]:
        """Return users whose id has a text in it: that very id first, then those that begin so; of
        these first those of whom something is held out."""
        if self.users is None:
            return []
        text, some = query.strip(), np.diff(self.users.held_out.indptr) > 0
        found = [name for name in self._users if text.casefold() in name.casefold()]
        found.sort(key=lambda n: (n != text, not n.startswith(text), not some[self._users[n]]))
        return found[:limit]

    def user(self, name: str) -> dict[str, Any]:
        """Return a user's ``history`` and ``held_out`` items; a user who is not of the data set is
        a ``ValueError``."""
        if self.users is None or name not in self._users:
            raise ValueError(f"there is no user {shown(name)} in the data set.")
        row, of = self._users[name], self.users
        parts = (of.items[each[row].indices] for each in (of.histories, of.held_out))
        history, held_out = ([self._item(str(token)) for token in tokens] for tokens in parts)
        return {"user": name, "history": history, "held_out": held_out}

    def recommend(
        self, histories: Sequence[Sequence[str | int]], k: int = 20, model: str | None = None
    ) -> dict[str, Any]:
        """Return the name of the model, and for each history its best items and their scores.

        Args:
            histories: lists of item tokens, or of whole numbers, which stand for their digits.
            k: number of items for each history; all where fewer are left.
            model: the name of one; by default the first.

        Raises:
            ValueError: an argument is wrong.
        """
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            names = ", ".join(map(shown, self.models))
            raise ValueError(f"there is no model {shown(name)}: the models are {names}.")
        lists = [[item_token(item) for item in each] for each in histories]
        return {"model": name, "recommendations": self._ranked(name, lists, k)[1]}

    def _ranked(
        self, name: str, lists: list[list[str]], k: int
    ) -> tuple[UserHistories, list[dict[str, Any]]]:
        """What a model knows of some histories, and what it recommends to each."""
        of = self.models[name]
        known = user_histories(lists, of.catalogue, of.field_names)
        answers: list[dict[str, Any]] = [
            {"items": [], "scores": [], "from_prior": not n, "unknown": self._unknown(name, each)}
            for n, each in zip(np.diff(known.histories.indptr), lists)
        ]
        if lists:
            frames = of.recommend_in_batches(known, k)
            for user, rows in pd.concat(frames).groupby("user", sort=False):
                scores = shortest_decimals(rows["score"])
                answers[user] |= {"items": rows["item"].tolist(), "scores": scores}
        return known, answers

    def compare(self, history: Sequence[str | int], k: int = 20) -> dict[str, Any]:
        """Return each model's best items for one history, and why it recommends them.

        Of each model: its ``items`` with ``score``, ``because`` (the items of the history that
        speak most for it, with their weights; of models with weights between items) and
        ``also_in`` (its rank by the name of each other model that recommends it); ``from_prior``,
        ``unknown`` and ``components`` (see :class:`NearestComponents`; None if it has none).
        Arguments and errors are those of :meth:`recommend`.
        """
        tokens = list(dict.fromkeys(item_token(item) for item in history))
        found = {name: self._ranked(name, [tokens], k) for name in self.models}
        ranks = {
            name: {token: rank for rank, token in enumerate(answer["items"], 1)}
            for name, (_, [answer]) in found.items()
        }
        models = []
        for name, (known, [answer]) in found.items():
            reasons = self._reasons(name, tokens, answer["items"])
            items = [
                {
                    **self._item(token),
                    "score": score,
                    "because": because,
                    "also_in": {n: r[token] for n, r in ranks.items() if n != name and token in r},
                }
                for token, score, because in zip(answer["items"], answer["scores"], reasons)
            ]
            unknown = [self._item(token) for token in answer["unknown"]]
            components = self._nearest(name, known)
            about = {"name": name, "from_prior": answer["from_prior"], "unknown": unknown}
            models.append({**about, "items": items, "components": components})
        return {"history": [self._item(token) for token in tokens], "models": models}

    def _item(self, token: str) -> dict[str, Any]:
        return {"item": token, "title": self._titles.get(token, token)}

    def _unknown(self, name: str, tokens: Iterable[str]) -> list[str]:
        return [token for token in dict.fromkeys(tokens) if token not in self._columns[name]]

    def _reasons(self, name: str, tokens: list[str], items: list[str]) -> list[list[dict]]:
        columns = self._columns[name]
        shown_to_it = [token for token in tokens if token in columns]
        if name not in self._weights or not shown_to_it or not items:
            return [[] for _ in items]
        places = columns.get_indexer(shown_to_it), columns.get_indexer(items)
        return [
            [{**self._item(shown_to_it[row]), "weight": weight} for row, weight in pairs]
            for pairs in self._weights[name].for_items(*places)
        ]

    def _nearest(self, name: str, known: UserHistories) -> list[dict[str, Any]] | None:
        if name not in self._components:
            return None
        if known.histories.nnz == 0:
            return []
        found = self._components[name].of(known.histories)
        return [{**each, "items": list(map(self._item, each["items"]))} for each in found]


def _plain(text: str) -> str:
    """A text without case and accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
