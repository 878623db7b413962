"""Recall as the VAE literature defines it."""

from __future__ import annotations

import numpy as np
from recbole.evaluator.base_metric import TopkMetric

__all__ = ["TruncatedRecall"]


class TruncatedRecall(TopkMetric):
    """Hits in the top K over min(K, n), n the number of the user's targets.

    Liang et al. (2018), equation 8; Kim & Suh (2019) report it as Recall@K. RecBole's ``Recall``
    divides by n, so that a user with more than K targets cannot reach 1.
    """

    def calculate_metric(self, dataobject):
        """Means over users by K, ``truncatedrecall@K``."""
        pos_index, pos_len = self.used_info(dataobject)
        return self.topk_result("truncatedrecall", self.metric_info(pos_index, pos_len))

    def metric_info(self, pos_index, pos_len=None):
        """Hits (users, K) and numbers of targets (users,) -> per-user values (users, K)."""
        cutoffs = np.arange(1, pos_index.shape[1] + 1)
        return np.cumsum(pos_index, axis=1) / np.minimum(cutoffs, pos_len[:, None])
