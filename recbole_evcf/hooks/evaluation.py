"""RecBole's evaluation with standard errors, values per user and cut-offs above all items."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Collector
from recbole.evaluator import register as metric_registry
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.evaluator import Evaluator
from recbole.evaluator.metrics import AveragePopularity, TailPercentage
from torch import Tensor, nn

from recbole_evcf.config.checks import is_vae
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.evaluator.metrics import (
    SE_SUFFIX,
    TruncatedRecall,
    per_user_values,
    standard_error,
    top_hits,
)
from recbole_evcf.hooks.wrapping import extend

__all__ = ["register_evaluation"]


def register_evaluation() -> None:
    """Register our metric with RecBole, and rank at most all items."""
    # The rest of RecBole holds references to these dicts.
    metric_registry.metrics_dict["truncatedrecall"] = TruncatedRecall
    metric_registry.metric_information["truncatedrecall"] = TruncatedRecall.metric_need
    metric_registry.metric_types["truncatedrecall"] = TruncatedRecall.metric_type
    extend(TopkMetric, MetricPerUser)
    extend(Evaluator, EvaluatorWithErrors)
    extend(Collector, HitCollector)


class MetricPerUser(TopkMetric):
    """A metric at K that keeps its values per user, for K above the number of items too."""

    def used_info(self, dataobject: Any) -> Any:
        """Return hits and counts; ranks after the last item are misses."""
        ranked = dataobject.get("rec.topk")
        missing = max(self.topk) + 1 - ranked.shape[1]
        if missing > 0:
            # The last column is the number of items to be found.
            hits = nn.functional.pad(ranked[:, :-1], (0, missing))
            dataobject = {"rec.topk": torch.cat([hits, ranked[:, -1:]], dim=1)}
        return super().used_info(dataobject)

    def topk_result(self, metric: str, value: np.ndarray) -> dict[str, float]:
        """Keep the values, (users, K), whose means RecBole reports."""
        self.per_user = value
        return super().topk_result(metric, value)


class EvaluatorWithErrors(Evaluator):
    """An evaluator that reports standard errors on request."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for metric in self.metric_class.values():
            if isinstance(metric, (AveragePopularity, TailPercentage)):
                metric.metric_info = _as_at_all_items(metric.metric_info, max(metric.topk))

    def evaluate(self, dataobject: Any) -> dict[str, float]:
        """Return the metrics by name."""
        # Plain numbers: NumPy's in an OrderedDict are unreadable in a log.
        result = {name: float(value) for name, value in super().evaluate(dataobject).items()}
        if self.config["standard_error"]:
            values = per_user_values(self.metric_class, self.config["topk"])
            for name, value in values.items():
                error = round(standard_error(value), self.config["metric_decimal_place"])
                result[f"{name}{SE_SUFFIX}"] = error
        return result


def _as_at_all_items(metric_info: Callable, k: int) -> Callable:
    """Make a mean at K the mean over all items where K exceeds their number."""

    def padded(values: np.ndarray) -> np.ndarray:
        means = metric_info(values)
        return np.pad(means, ((0, 0), (0, max(k - means.shape[1], 0))), mode="edge")

    return padded


class HitCollector(Collector):
    """A collector that ranks at most all items and finds hits without a batch x items matrix:
    for our models and the split by users, and for all after ``speed_up_recbole``."""

    fast_for_all = False
    topk: list

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._is_ours = is_vae(config) or is_sg(config)

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect what the metrics need from a batch; arguments as RecBole's."""
        need = self.register.need
        of_scores = any(need(name) for name in ("rec.meanrank", "rec.score", "data.label"))
        if of_scores or not (self._is_ours or HitCollector.fast_for_all):
            # Value metrics have a score for each interaction, and no ranking.
            n_items = scores_tensor.shape[-1] if scores_tensor.dim() > 1 else math.inf
            asked = self.topk
            self.topk = [min(max(asked), n_items)]
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            self.topk = asked
        elif need("rec.items") or need("rec.topk"):
            items, hits = top_hits(scores_tensor, max(self.topk), positive_u, positive_i)
            if need("rec.items"):
                self.data_struct.update_tensor("rec.items", items)
            if need("rec.topk"):
                self.data_struct.update_tensor("rec.topk", hits)
