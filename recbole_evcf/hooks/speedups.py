"""RecBole's own loading, splitting and ranking, faster and with the same results.

For RecBole's models this is opt-in: importing the package changes none of it.
"""

import functools
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.model.general_recommender import EASE
from recbole.trainer import Trainer
from torch import Tensor

from recbole_evcf.config.checks import is_ours
from recbole_evcf.data.atomic import with_c_engine
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.evaluator.metrics import top_hits
from recbole_evcf.evaluator.ranking import TopItems
from recbole_evcf.hooks.wrapping import Forward, exchange, extends, hook
from recbole_evcf.model.edlae import sums_of_rows
from recbole_evcf.model.last_layer import last_layer

# This environment variable makes child processes do the same.
SPEED_UP = "RECBOLE_EVCF_SPEED_UP"


@functools.cache
def speed_up_recbole() -> None:
    """Make RecBole read, split and evaluate faster for all models, with the same results (under
    the split by users, those of MultiVAE, MultiDAE and RecVAE are the same but for rounding).

    The command ``recbole-evcf`` does it. It holds for the processes that are started later, too. A
    second call does nothing.

    >>> import recbole_evcf
    >>> recbole_evcf.speed_up_recbole()
    """
    os.environ[SPEED_UP] = "1"
    hook(Dataset, "_grouped_index")(_grouped_index)
    hook(Dataset, "split_by_ratio")(_split_by_ratio)
    hook(Interaction, "__getitem__")(_take_rows)
    exchange(dataset_module, "Counter", _count)
    pandas = dataset_module.pd
    exchange(dataset_module, "pd", Forward(pandas, read_csv=with_c_engine(pandas.read_csv)))
    hook(EASE, "full_sort_predict")(_scores_of_ease)
    HitCollector.fast_for_all = True


@extends(Collector)
class HitCollector(Collector):
    """A collector that ranks at most all items and finds hits without a batch x items matrix:
    for our models and the split by users, and for all after ``speed_up_recbole``."""

    fast_for_all = False
    topk: list

    @property
    def only_ranks(self) -> bool:
        """Whether nothing but the K best items of a user is asked for, and may be found fast."""
        need = self.register.need
        # Value metrics have a score for each interaction, and no ranking.
        of_scores = any(need(name) for name in ("rec.meanrank", "rec.score", "data.label"))
        fast = HitCollector.fast_for_all or is_ours(self.config) or is_sg(self.config)
        return fast and not of_scores

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect what the metrics need from a batch; arguments as RecBole's, or instead of scores
        what ``RankingTrainer`` has ranked."""
        need = self.register.need
        if not self.only_ranks:
            n_items = scores_tensor.shape[-1] if scores_tensor.dim() > 1 else math.inf
            asked = self.topk
            self.topk = [min(max(asked), n_items)]
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            self.topk = asked
        elif need("rec.items") or need("rec.topk"):
            found = top_hits(scores_tensor, max(self.topk), positive_u, positive_i)
            for name, value in zip(("rec.items", "rec.topk"), found):
                if need(name):
                    self.data_struct.update_tensor(name, value)


@extends(Trainer)
class RankingTrainer(Trainer):
    """A trainer that ranks by a last layer, in two stages where that is faster."""

    _parts: Callable | None = None

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; arguments and result as RecBole's."""
        # Once the weights are loaded, and until they change.
        self._parts = functools.cache(self._in_two_parts)
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._parts = None

    def _full_sort_batch_eval(self, batched_data: tuple) -> tuple:
        parts = self._parts and self._parts()
        if not parts:
            return super()._full_sort_batch_eval(batched_data)
        interaction, (row, item), *positives = batched_data
        hidden, top_items = parts
        k = min(max(self.config["topk"]), self.tot_item_num)
        users = interaction.to(self.device)[self.model.USER_ID]
        _, places = top_items(hidden(users), k, row, item - 1)
        return interaction, places + 1, *positives

    def _in_two_parts(self) -> tuple[Callable, TopItems] | None:
        fast = HitCollector.fast_for_all or is_ours(self.config)
        ranks = fast and self.eval_collector.only_ranks
        layer = last_layer(self.model, sparse=True) if ranks else None
        return layer and (layer.hidden, TopItems(layer.weight, layer.bias, layer.score))


def _scores_of_ease(original: Callable, self: EASE, interaction: Any) -> Tensor:
    rows = self.interaction_matrix[interaction[self.USER_ID].cpu().numpy()]
    weights = np.asarray(self.item_similarity)
    # Those of a loaded file may have another type.
    if weights.dtype != np.float32 or rows.dtype != np.float32 or (rows.data != 1).any():
        return original(self, interaction)
    item, start = (torch.from_numpy(each).long() for each in (rows.indices, rows.indptr[:-1]))
    return sums_of_rows(torch.from_numpy(weights), item, start).view(1, -1)


def _count(values: Any = ()) -> Counter:
    """``collections.Counter`` of an array, in the same order: that of first appearance."""
    if not hasattr(values, "dtype"):
        return Counter(values)
    codes, unique = pd.factorize(values, use_na_sentinel=False)
    return Counter(dict(zip(unique, np.bincount(codes, minlength=len(unique)).tolist())))


def _by_group(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of each key, keys in order of first appearance, and how many it has."""
    codes, _ = pd.factorize(keys)
    return np.argsort(codes, kind="stable"), np.bincount(codes)


def _grouped_index(original: Callable, self: Dataset, keys: np.ndarray) -> list[list[int]]:
    order, counts = _by_group(keys)
    return [places.tolist() for places in np.split(order, counts.cumsum()[:-1])]


def _split_by_ratio(
    original: Callable, self: Dataset, ratios: list[float], group_by: str | None = None
) -> list:
    if group_by is None:
        return original(self, ratios, group_by)
    self.logger.debug(f"split by ratios [{ratios}], group_by=[{group_by}]")
    shares = [ratio / sum(ratios) for ratio in ratios]
    order, counts = _by_group(self.inter_feat[group_by].numpy())
    # Where the parts of a group begin and end, which depends on its size.
    sizes, of_size = np.unique(counts, return_inverse=True)
    edges = [[0, *self._calcu_split_ids(int(size), shares), size] for size in sizes]
    bounds = np.array(edges)[of_size].T
    group = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    parts = [
        order[(place >= start[group]) & (place < end[group])]
        for start, end in itertools.pairwise(bounds)
    ]
    self._drop_unused_col()
    return [self.copy(self.inter_feat[part]) for part in parts]


def _take_rows(original: Callable, self: Interaction, index: Any) -> Any:
    # Floats and objects, which may hold whole numbers, and lists are RecBole's.
    if isinstance(index, np.ndarray) and np.can_cast(index.dtype, np.int64):
        # PyTorch takes no array that runs backwards, nor every kind of whole number.
        kind = np.bool_ if index.dtype == np.bool_ else np.int64
        index = torch.from_numpy(np.ascontiguousarray(index, kind))
    exact = isinstance(index, Tensor) and not (index.is_floating_point() or index.is_complex())
    if not exact or index.ndim != 1:
        return original(self, index)
    if index.dtype != torch.bool:
        index = index.long()
    columns = self.interaction.items()
    return Interaction({name: column[index.to(column.device)] for name, column in columns})
