"""Write and read RecBole's model files without pickled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender, GeneralRecommender
from recbole.trainer.trainer import PretrainTrainer, Trainer
from recbole.utils import set_color
from torch import nn

from recbole_evcf import distributed
from recbole_evcf.hooks.wrapping import wrap_once
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.trainer.checkpoint import from_plain, save_checkpoint

__all__ = ["register_checkpoints", "save_model"]


def register_checkpoints() -> None:
    """Make RecBole's models read what :func:`save_model` writes, pretrained ones too."""
    wrap_once(PretrainTrainer, "save_pretrained_model", _saving_pretrained_plainly)
    wrap_once(AbstractRecommender, "load_other_parameter", _loading_plainly)


def save_model(trainer: Trainer, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
    """Write a model file; the arguments are those of RecBole's ``Trainer._save_checkpoint``."""
    if not trainer.config["single_spec"] and trainer.config["local_rank"] != 0:
        return
    if not distributed.is_first():
        return
    path = kwargs.pop("saved_model_file", trainer.saved_model_file)
    progress = {"cur_step": trainer.cur_step, "best_valid_score": trainer.best_valid_score}
    training: dict[str, Any] = getattr(trainer, "training_state", dict)()
    save_checkpoint({**_state(trainer, epoch), **progress, **training}, path)
    if verbose:
        trainer.logger.info(set_color("Saving current", "blue") + f": {path}")


def _state(trainer: Trainer, epoch: int) -> dict[str, Any]:
    model = trainer.model
    known = FOLD_IN_MODELS.get(type(model).__name__)
    learned = {name: getattr(model, name) for name in known.learned} if known else {}
    other = {**model.other_parameter(), **learned}
    return {
        **_what_serving_needs(model),
        "config": trainer.config,
        "epoch": epoch,
        "state_dict": model.state_dict(),
        # Submodules are already in the state_dict.
        "other_parameter": {k: v for k, v in other.items() if not isinstance(v, nn.Module)},
        "optimizer": trainer.optimizer.state_dict(),
    }


def _what_serving_needs(model: nn.Module) -> dict[str, Any]:
    """Return what a model's constructor needs when its data set is unavailable."""
    if not isinstance(model, GeneralRecommender):
        return {}
    return {"n_users": model.n_users, "item_catalogue": model.item_catalogue.to_plain()}


def _saving_pretrained_plainly(original: Callable) -> Callable:
    def save_pretrained_model(self: Trainer, epoch: int, saved_model_file: str) -> None:
        # The first path is the next stage's input, which any run on this data set writes; the
        # second, with which this run is tested, must be its own.
        for path in (saved_model_file, self.saved_model_file):
            save_checkpoint(_state(self, epoch), path)

    return save_pretrained_model


def _loading_plainly(original: Callable) -> Callable:
    return lambda self, para: original(self, from_plain(para))
