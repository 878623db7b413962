"""WMF: weighted matrix factorization of implicit feedback, with fold-in of unseen users.

Y. Hu, Y. Koren and C. Volinsky. "Collaborative Filtering for Implicit Feedback Datasets", ICDM
2008. With the binary interactions r, preferences p = r and confidences c = 1 + alpha r, user
vectors x and item vectors y minimise

    sum over all u, i of  c_ui (p_ui - x_u^T y_i)^2  +  reg_weight (sum_u |x_u|^2 + sum_i |y_i|^2).

The item vectors come from the alternating least squares of the package ``implicit``. Its own
``alpha`` is the confidence c of an interaction itself, so it is given 1 + alpha.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor, nn

from recbole_evcf.config.keys import Role, checked, with_role
from recbole_evcf.data.histories import Histories
from recbole_evcf.model.fold_in import padded_columns

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction

# Users solved for at once: each needs its history's item vectors and a matrix of its own.
CHUNK = 32


class WMF(GeneralRecommender):
    """Weighted matrix factorization (Hu, Koren and Volinsky 2008).

    The constructor trains, on the interactions of ``dataset.inter_feat`` alone. What is kept are
    the item vectors; every user, seen in training or not, is scored by one step of ALS from the
    input history (:func:`fold_in`).

    Config keys: ``embedding_size``, ``reg_weight``, ``alpha``, ``als_iterations``; and RecBole's
    ``seed`` and ``show_progress``. Training runs on the CPU with PyTorch's number of threads; on
    one machine the same seed gives the same vectors, bit by bit, whatever that number.

    Args:
        config: RecBole's ``Config``.
        dataset: the training part of RecBole's ``Dataset``.

    Raises:
        ValueError: a key has a value that cannot be taken or that ends without a solution, or the
            package ``implicit`` is missing.

    >>> import recbole_evcf
    >>> small = {"embedding_size": 8, "als_iterations": 2}
    >>> recbole_evcf.run("WMF", "ml-100k", **small)["test_result"]["ndcg@10"] > 0
    True
    """

    type = ModelType.TRADITIONAL
    input_type = InputType.POINTWISE
    # It can score a user that it was not trained on.
    folds_in = True

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        values = {key: checked(key, config[key]) for key in with_role(Role.OF_WMF)}
        self.alpha, self.reg_weight = values["alpha"], values["reg_weight"]
        # Not among the module's buffers: this is data, not state of the model.
        self._histories = Histories.input_of(dataset).to(self.device)
        items = _train(Histories.from_dataset(dataset), config, **values)
        # The matrix of a user without history; interactions only add to it.
        eigenvalues = torch.linalg.eigvalsh(_gram(items.double(), self.reg_weight))
        if not eigenvalues[0] > eigenvalues[-1] * len(eigenvalues) * 1e-15:
            raise ValueError(
                f"reg_weight {self.reg_weight:g} leaves user vectors of embedding_size "
                f"{items.shape[1]} undetermined by {len(items)} items: raise reg_weight or lower "
                "embedding_size."
            )
        # No gradient: for RecBole's optimizer there is nothing to do.
        self.item_factors = nn.Parameter(items.to(self.device), requires_grad=False)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Zero: the constructor has trained the model."""
        return torch.zeros((), device=self.device, requires_grad=True)

    def user_vectors(self, users: Tensor) -> Tensor:
        """One ALS step for each user from the input history, (batch, embedding_size)."""
        # In double precision, so that the rest of the batch changes no digit that is kept.
        items = self.item_factors.double()
        vectors = fold_in(items, self._histories, users, self.alpha, self.reg_weight)
        return vectors.to(self.item_factors.dtype)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of the given user-item pairs, (pairs,)."""
        users, place = interaction[self.USER_ID].unique(return_inverse=True)
        # Item -1, the padding item, reads the last row; RecBole never ranks it.
        items = self.item_factors[interaction[self.ITEM_ID] - 1]
        return (self.user_vectors(users)[place] * items).sum(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items for the given users, (batch, items); the padding item has -inf."""
        vectors = self.user_vectors(interaction[self.USER_ID])
        scores = vectors.new_empty(len(vectors), self.n_items)
        scores[:, 0] = -torch.inf
        torch.mm(vectors, self.item_factors.T, out=scores[:, 1:])
        return scores


def fold_in(
    items: Tensor, histories: Histories, users: Tensor, alpha: float, reg_weight: float
) -> Tensor:
    """User vectors that minimise the objective for given item vectors.

    x_u = (Y^T C_u Y + reg_weight I)^-1 Y^T C_u p_u (Hu et al. 2008, equation 4), where
    Y^T C_u Y = Y^T Y + alpha (sum of y_i y_i^T over the history). A user without history has zeros.

    Args:
        items: item vectors Y, (items, factors).
        histories: of all users, with one column per row of ``items``.
        users: user ids, (batch,).
        alpha: confidence of an interaction above that of all else, 1.
        reg_weight: weight of the squared norm.

    Returns:
        (batch, factors), of the type of ``items``.
    """
    gram = _gram(items, reg_weight)
    # A row of zeros, for histories shorter than the longest beside them.
    items = F.pad(items, (0, 0, 0, 1))
    vectors = items.new_empty(len(users), items.shape[1])
    # Users of like length together: little is padded.
    for chunk in histories.rows(users).lengths.argsort().split(CHUNK):
        own = items[padded_columns(histories.rows(users[chunk]))]
        cholesky = torch.linalg.cholesky(torch.baddbmm(gram, own.mT, own, alpha=alpha))
        target = (1 + alpha) * own.sum(1, keepdim=True).mT
        vectors[chunk] = torch.cholesky_solve(target, cholesky)[:, :, 0]
    return vectors


def _gram(items: Tensor, reg_weight: float) -> Tensor:
    gram = items.T @ items
    gram.diagonal().add_(reg_weight)
    return gram


def _train(
    histories: Histories, config: Config, alpha: float, reg_weight: float, **sizes: int
) -> Tensor:
    """Item vectors by ALS over the users who have a history, (items, factors)."""
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.recommender_base import ModelFitError
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ValueError(
            "WMF needs the package implicit, which is missing: pip install implicit "
            '(the extra ".[baselines]")'
        ) from None
    # implicit asks for it: BLAS threads within its own are slow, and it warns of them.
    with threadpool_limits(1, "blas"):
        als = AlternatingLeastSquares(
            factors=sizes["embedding_size"],
            iterations=sizes["als_iterations"],
            regularization=reg_weight,
            alpha=1 + alpha,
            random_state=config["seed"],
            num_threads=torch.get_num_threads(),
        )
        try:
            matrix = histories.matrix()[histories.lengths.numpy() > 0]
            als.fit(matrix, show_progress=bool(config["show_progress"]))
        except ModelFitError:
            raise ValueError(
                f"WMF's ALS ran out of the range of numbers with reg_weight {reg_weight:g} and "
                f"alpha {alpha:g}."
            ) from None
    return torch.from_numpy(np.ascontiguousarray(als.item_factors))
