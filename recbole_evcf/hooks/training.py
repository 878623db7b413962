"""RecBole's trainers, evaluation and quick start, and what each of several processes writes."""

import functools
import importlib
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from recbole.evaluator import register as metric_registry
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.evaluator import Evaluator
from recbole.evaluator.metrics import AveragePopularity, TailPercentage
from recbole.model.abstract_recommender import AbstractRecommender, GeneralRecommender
from recbole.trainer.trainer import PretrainTrainer, Trainer
from recbole.utils import logger, set_color, utils
from torch import nn

from recbole_evcf import distributed, quick_start
from recbole_evcf.config.checks import sparse_gradients
from recbole_evcf.evaluator import metrics
from recbole_evcf.hooks.wrapping import extends, hook, replace
from recbole_evcf.model.baseline import Baseline
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.checkpoint import (
    fixed_weights,
    from_plain,
    save_checkpoint,
    tested_model_files,
)
from recbole_evcf.trainer.row_adam import RowAdam, RowAdamNormGrad
from recbole_evcf.trainer.trainer import AdamNormGrad


@extends(Trainer)
class PluginTrainer(Trainer):
    """A RecBole trainer that knows our optimizers and checks what it evaluates on."""

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        known: dict[str, Callable] = {"adam_norm_grad": AdamNormGrad}
        if isinstance(self.model, VAERecommender):
            known["adam"] = functools.partial(torch.optim.Adam, fused=True)
            if sparse_gradients(self.config):
                known = {"adam_norm_grad": RowAdamNormGrad, "adam": RowAdam}
        learner = str(kwargs.get("learner", self.learner)).lower()
        if learner not in known:
            return super()._build_optimizer(**kwargs)
        return known[learner](
            kwargs.get("params", self.model.parameters()),
            lr=kwargs.get("learning_rate", self.learning_rate),
            weight_decay=kwargs.get("weight_decay", self.weight_decay),
        )

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._valid_epoch(*args, **kwargs)
        # RecBole adds one when nothing improves; the warm-up does not count for early stopping.
        if isinstance(self.model, VAERecommender) and not self.model.warmup.was_finished:
            self.cur_step = -1
        return result

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        elsewhere = not self.config["single_spec"] and self.config["local_rank"] != 0
        if elsewhere or not distributed.is_first():
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        progress = {"cur_step": self.cur_step, "best_valid_score": self.best_valid_score}
        resumption = getattr(self, "resumption", None)
        training = {"training": resumption.state()} if resumption else {}
        state = {**_state(self, epoch), **progress, **training}
        if resumption and path != self.saved_model_file and self.best_epoch >= 0:
            # The model file has what no epoch changes, of which there may be gigabytes.
            for name in fixed_weights(self.model):
                del state["state_dict"][name]
        self._write_checkpoint(state, path, verbose)

    def _write_checkpoint(self, state: dict[str, Any], path: str, verbose: bool) -> None:
        save_checkpoint(state, path)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Evaluate on a dataloader of the model's data; arguments and result as RecBole's."""
        vocabulary = getattr(self.model, "vocabulary", None)
        if vocabulary is not None and eval_data:
            vocabulary.check(eval_data._dataset)
        if load_best_model:
            tested_model_files.append(str(model_file or self.saved_model_file))
        # Nothing has changed since the constructor learned it: EDLAE would read gigabytes twice.
        if isinstance(self.model, Baseline) and model_file is None:
            load_best_model = False
        result = super().evaluate(eval_data, load_best_model, model_file, show_progress)
        path = self.config["per_user_file"]
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        if path and phase == "test" and distributed.is_first():
            users = metrics.ranked_users(eval_data)
            # None: sequential models may rank for a user more than once.
            if users is not None:
                values = metrics.per_user_values(self.evaluator.metric_class, self.config["topk"])
                metrics.write_per_user(path, users, values)
        return result


def _state(trainer: Trainer, epoch: int) -> dict[str, Any]:
    model = trainer.model
    known = FOLD_IN_MODELS.get(type(model).__name__)
    learned = {name: getattr(model, name) for name in known.learned} if known else {}
    other = {**model.other_parameter(), **learned}
    state = {
        "config": trainer.config,
        "epoch": epoch,
        "state_dict": model.state_dict(),
        # Submodules are already in the state_dict.
        "other_parameter": {k: v for k, v in other.items() if not isinstance(v, nn.Module)},
        "optimizer": trainer.optimizer.state_dict(),
    }
    if not isinstance(model, GeneralRecommender):
        return state
    # What the constructor needs when the data set is unavailable.
    return {"n_users": model.n_users, "item_catalogue": model.item_catalogue.to_plain(), **state}


@hook(PretrainTrainer, "save_pretrained_model")
def _save_pretrained_plainly(original: Callable, self: Any, epoch: int, path: str) -> None:
    # The first path is the next stage's input, which any run on this data set writes; the second,
    # with which this run is tested, must be its own.
    for each in (path, self.saved_model_file):
        save_checkpoint(_state(self, epoch), each)


@extends(TopkMetric)
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


@extends(Evaluator)
class EvaluatorWithErrors(Evaluator):
    """An evaluator that reports standard errors on request."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        for metric in self.metric_class.values():
            if isinstance(metric, (AveragePopularity, TailPercentage)):
                k = max(metric.topk)
                metric.metric_info = functools.partial(_as_at_all_items, metric.metric_info, k)

    def evaluate(self, dataobject: Any) -> dict[str, float]:
        """Return the metrics by name."""
        # Plain numbers: NumPy's in an OrderedDict are unreadable in a log.
        result = {name: float(value) for name, value in super().evaluate(dataobject).items()}
        if self.config["standard_error"]:
            values = metrics.per_user_values(self.metric_class, self.config["topk"])
            for name, value in values.items():
                error = round(metrics.standard_error(value), self.config["metric_decimal_place"])
                result[f"{name}{metrics.SE_SUFFIX}"] = error
        return result


def _as_at_all_items(metric_info: Callable, k: int, values: np.ndarray) -> np.ndarray:
    """Return means at 1 to K; where K exceeds the number of items, that over all items."""
    means = metric_info(values)
    return np.pad(means, ((0, 0), (0, max(k - means.shape[1], 0))), mode="edge")


@hook(logger, "init_logger")
def _init_logger_once(original: Callable, config: Any) -> None:
    if distributed.is_first():
        original(config)
    else:
        logging.basicConfig(level=logging.ERROR)


@hook(utils, "get_tensorboard")
def _one_tensorboard(original: Callable, logger: logging.Logger) -> Any:
    if not distributed.is_first():
        # TensorBoard's writer creates a file at once.
        names = ("add_scalar", "add_hparams")
        return SimpleNamespace(**dict.fromkeys(names, lambda *_, **__: None))
    files = [h.baseFilename for h in logger.handlers if hasattr(h, "baseFilename")]
    # RecBole cuts the name at its first dot, losing the time if a data set's name has one.
    bases = [os.path.basename(file)[:-4].replace(".", "_") for file in files[:1]]
    return original(SimpleNamespace(handlers=[SimpleNamespace(baseFilename=b) for b in bases]))


hook(utils, "ensure_dir")(lambda original, path: distributed.is_first() and original(path))
hook(AbstractRecommender, "load_other_parameter")(
    lambda original, self, para: original(self, from_plain(para))
)
# Functions of ours: a new process finds its work, and the plugin, under their name.
for _name in ("load_data_and_model", "run", "run_recboles"):
    _module = importlib.import_module("recbole.quick_start.quick_start")
    replace(_module, _name, getattr(quick_start, _name))
# The rest of RecBole holds references to these dicts.
metric_registry.metrics_dict["truncatedrecall"] = metrics.TruncatedRecall
metric_registry.metric_information["truncatedrecall"] = metrics.TruncatedRecall.metric_need
metric_registry.metric_types["truncatedrecall"] = metrics.TruncatedRecall.metric_type
