"""RecBole's trainers, its quick start, and what it writes when several processes run."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from recbole.trainer.trainer import Trainer

from recbole_evcf import distributed, quick_start
from recbole_evcf.evaluator.metrics import per_user_values, ranked_users, write_per_user
from recbole_evcf.hooks.checkpoints import save_model
from recbole_evcf.hooks.wrapping import extend, replace_function, wrap_once
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.checkpoint import note_tested
from recbole_evcf.trainer.optimizer import AdamNormGrad

__all__ = ["register_training"]


def register_training() -> None:
    """Make RecBole train our models, write files without code and start our processes."""
    extend(Trainer, PluginTrainer)
    utils = importlib.import_module("recbole.utils.utils")
    wrap_once(importlib.import_module("recbole.utils.logger"), "init_logger", _logging_once)
    wrap_once(utils, "get_tensorboard", _one_tensorboard)
    wrap_once(utils, "ensure_dir", _making_folders_once)
    for name in ("load_data_and_model", "run", "run_recboles"):
        # A new process finds its work, and the plugin, under the last one's name.
        module = importlib.import_module("recbole.quick_start.quick_start")
        replace_function(getattr(module, name), getattr(quick_start, name))


class PluginTrainer(Trainer):
    """A RecBole trainer that knows our optimizers and checks what it evaluates on."""

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        known: dict[str, Callable] = {"adam_norm_grad": AdamNormGrad}
        if isinstance(self.model, VAERecommender):
            known["adam"] = functools.partial(torch.optim.Adam, fused=True)
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
        save_model(self, epoch, verbose, **kwargs)

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Evaluate on a dataloader of the model's data; arguments and result as RecBole's."""
        vocabulary = getattr(self.model, "vocabulary", None)
        if vocabulary is not None and eval_data:
            vocabulary.check(eval_data._dataset)
        if load_best_model:
            note_tested(str(model_file or self.saved_model_file))
        result = super().evaluate(eval_data, load_best_model, model_file, *args, **kwargs)
        path = self.config["per_user_file"]
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        if path and phase == "test" and distributed.is_first():
            users = ranked_users(eval_data)
            # None: sequential models may rank for a user more than once.
            if users is not None:
                values = per_user_values(self.evaluator.metric_class, self.config["topk"])
                write_per_user(path, users, values)
        return result


def _logging_once(original: Callable) -> Callable:
    def init_logger(config: Any) -> None:
        if distributed.is_first():
            original(config)
        else:
            logging.basicConfig(level=logging.ERROR)

    return init_logger


def _one_tensorboard(original: Callable) -> Callable:
    def get_tensorboard(logger: logging.Logger) -> Any:
        if not distributed.is_first():
            return _NoTensorBoard()
        files = [h.baseFilename for h in logger.handlers if hasattr(h, "baseFilename")]
        # RecBole cuts the name at its first dot, losing the time if a data set's name has one.
        names = [os.path.basename(file)[:-4].replace(".", "_") for file in files[:1]]
        handlers = [SimpleNamespace(baseFilename=name) for name in names]
        return original(SimpleNamespace(handlers=handlers))

    return get_tensorboard


def _making_folders_once(original: Callable) -> Callable:
    def ensure_dir(path: str) -> None:
        if distributed.is_first():
            original(path)

    return ensure_dir


class _NoTensorBoard:
    """Replace TensorBoard's writer, which creates a file at once."""

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing."""

    add_hparams = add_scalar
