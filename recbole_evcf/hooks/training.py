"""RecBole's trainers, model files and quick start, and what each of several processes writes."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from recbole.model.abstract_recommender import AbstractRecommender, GeneralRecommender
from recbole.trainer.trainer import PretrainTrainer, Trainer
from recbole.utils import logger, set_color, utils
from torch import nn

from recbole_evcf import distributed, quick_start
from recbole_evcf.evaluator.metrics import per_user_values, ranked_users, write_per_user
from recbole_evcf.hooks.wrapping import extend, replace_function, wrap
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.checkpoint import from_plain, note_tested, save_checkpoint
from recbole_evcf.trainer.optimizer import AdamNormGrad

__all__ = ["register_training"]


def register_training() -> None:
    """Make RecBole train our models, write files without code and start our processes."""
    extend(Trainer, PluginTrainer)
    wrap(PretrainTrainer, "save_pretrained_model", _save_pretrained_plainly)
    wrap(
        AbstractRecommender,
        "load_other_parameter",
        lambda original, self, para: original(self, from_plain(para)),
    )
    wrap(logger, "init_logger", _init_logger_once)
    wrap(utils, "get_tensorboard", _one_tensorboard)
    wrap(utils, "ensure_dir", lambda original, path: distributed.is_first() and original(path))
    module = importlib.import_module("recbole.quick_start.quick_start")
    for name in ("load_data_and_model", "run", "run_recboles"):
        # Functions of ours: a new process finds its work, and the plugin, under their name.
        replace_function(module, name, getattr(quick_start, name))


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
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        if not distributed.is_first():
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        progress = {"cur_step": self.cur_step, "best_valid_score": self.best_valid_score}
        training: dict[str, Any] = getattr(self, "training_state", dict)()
        save_checkpoint({**_state(self, epoch), **progress, **training}, path)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

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


def _save_pretrained_plainly(original: Callable, self: Any, epoch: int, path: str) -> None:
    # The first path is the next stage's input, which any run on this data set writes; the second,
    # with which this run is tested, must be its own.
    for each in (path, self.saved_model_file):
        save_checkpoint(_state(self, epoch), each)


def _init_logger_once(original: Callable, config: Any) -> None:
    if distributed.is_first():
        original(config)
    else:
        logging.basicConfig(level=logging.ERROR)


def _one_tensorboard(original: Callable, logger: logging.Logger) -> Any:
    if not distributed.is_first():
        # TensorBoard's writer creates a file at once.
        return SimpleNamespace(add_scalar=_write_nothing, add_hparams=_write_nothing)
    files = [h.baseFilename for h in logger.handlers if hasattr(h, "baseFilename")]
    # RecBole cuts the name at its first dot, losing the time if a data set's name has one.
    names = [os.path.basename(file)[:-4].replace(".", "_") for file in files[:1]]
    return original(SimpleNamespace(handlers=[SimpleNamespace(baseFilename=n) for n in names]))


def _write_nothing(*args: Any, **kwargs: Any) -> None:
    pass
