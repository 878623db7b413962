"""Why a model recommends what it does: the nearest components of its prior, and item weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from recbole_evcf.data.histories import Histories
from recbole_evcf.inspection import measures
from recbole_evcf.model.gaussian import Gaussian, VampPrior
from recbole_evcf.serving.recommender import Recommender


class NearestComponents:
    """The components of a VampPrior that are nearest to a history's posterior.

    Args:
        recommender: of a model for which :meth:`explains` is true.
        k: how many items to name of each component.
    """

    @torch.no_grad()
    def __init__(self, recommender: Recommender, k: int = 6) -> None:
        self._model = measures.LatentModel(recommender.model.network)
        self._device = recommender.model.device
        mean, log_variance = self._model.components.mean, self._model.components.log_variance
        self._components = Gaussian(mean.cpu().double(), log_variance.cpu().double())
        average = recommender.scores_without_history.double().exp().cpu().numpy()
        items = measures.component_items(self._model, average, recommender.item_tokens, k)
        distinguishing = items[items["by"] == "distinction"]
        self._items = distinguishing.groupby("component")["item"].agg(list)

    @staticmethod
    def explains(recommender: Recommender) -> bool:
        """Whether a model has a VampPrior."""
        network = getattr(recommender.model, "network", None)
        return isinstance(getattr(network, "prior", None), VampPrior)

    @torch.no_grad()
    def of(self, history: scipy.sparse.csr_matrix, n: int = 3) -> list[dict[str, Any]]:
        """Return the n nearest components, as dicts, the nearest first.

        ``component`` is its number from 0, ``share`` its share in explaining the history, which is
        proportional to exp(-KL), ``kl`` the divergence of the history's posterior from it in nats,
        and ``items`` the k items that distinguish it most from the mean of all components.

        Args:
            history: of one user, a matrix (1, items).
            n: how many components.
        """
        batch = Histories(history).to(self._device).rows(torch.zeros(1, dtype=torch.long))
        found = self._model.encoder(batch.normalized())
        posterior = Gaussian(found.mean.cpu().double(), found.log_variance.cpu().double())
        expected = measures.expected_log_density(posterior, self._components)[0]
        kl, shares = -measures.normal(posterior).entropy().sum() - expected, expected.softmax(0)
        return [
            {
                "component": number,
                "share": float(shares[number]),
                "kl": float(kl[number]),
                "items": self._items[number],
            }
            for number in kl.topk(min(n, len(kl)), largest=False).indices.tolist()
        ]


class ItemWeights:
    """The weights of a linear model, or of the linear path of ours, between pairs of items.

    Args:
        model: one for which :meth:`explains` is true.
    """

    def __init__(self, model: Any) -> None:
        # RecBole's matrices have a row and a column for its padding item.
        first = 0 if getattr(model, "item_weights", None) is not None else 1
        weights: Any = model.item_similarity if first else model.item_weights
        self._weights = weights.tocsr() if scipy.sparse.issparse(weights) else weights
        # Of each item its row and column, or -1.
        self._place = np.arange(first, weights.shape[0])
        if (items := getattr(model, "linear_items", None)) is not None:
            self._place = np.full(model.n_items - 1, -1)
            self._place[items.cpu()] = np.arange(len(items))
        self._factor = float(getattr(model, "linear_weight", 1.0))

    @staticmethod
    def explains(model: Any) -> bool:
        """Whether a model scores an item by a sum of weights over the items of the history."""
        weights = [getattr(model, name, None) for name in ("item_weights", "item_similarity")]
        return any(len(getattr(each, "shape", ())) == 2 for each in weights)

    def between(self, history: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """What each item of a history adds to the score of some items.

        Columns of the model's items, (history,) and (items,) -> (history, items).
        """
        rows, columns = self._place[history], self._place[columns]
        if isinstance(self._weights, Tensor):
            chosen = self._weights[torch.from_numpy(rows)][:, torch.from_numpy(columns)]
            values = chosen.detach().cpu().numpy()
        elif scipy.sparse.issparse(self._weights):
            values = self._weights[rows].toarray()[:, columns]
        else:
            values = np.asarray(self._weights)[np.ix_(rows, columns)]
        return self._factor * values.astype(np.float64) * ((rows[:, None] >= 0) & (columns >= 0))

    def for_items(
        self, history: np.ndarray, columns: np.ndarray, n: int = 3
    ) -> list[list[tuple[int, float]]]:
        """For each of some items, the at most n items of the history that speak most for it.

        Returns:
            pairs of a place in ``history`` and a weight above 0, the largest first.
        """
        values = self.between(history, columns)
        order: Sequence[np.ndarray] = (-values).argsort(axis=0, kind="stable")[:n].T
        return [
            [(int(row), float(values[row, place])) for row in rows if values[row, place] > 0]
            for place, rows in enumerate(order)
        ]
