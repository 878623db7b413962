"""Checks of finished configs, with errors of one sentence each, before anything is loaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping

import torch
from recbole.config import Config
from recbole.utils import get_trainer

from recbole_evcf.config.evaluation import check_eval_args, check_valid_metric
from recbole_evcf.config.keys import Role, checked, with_role
from recbole_evcf.config.names import check_names
from recbole_evcf.config.values import brief
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import Settings
from recbole_evcf.trainer.trainer import VAETrainer

__all__ = [
    "can_resume",
    "check_dataset_name",
    "check_processes",
    "check_settings",
    "is_vae",
]

OF_CLIPPING = {"max_norm", "norm_type", "error_if_nonfinite", "foreach"}


def check_settings(config: Config) -> None:
    """Check all settings of a finished ``Config``, from all sources, before anything is loaded.

    Raises:
        ValueError: a key has no effect, or a value is none that RecBole or the model takes.
    """
    # Those of a model file were checked when it was trained.
    if not getattr(config, "is_restored", False):
        check_names(config)
        check_eval_args(config)
        check_valid_metric(config)
        _check_clipping(config)
    _check_values(config, Role.CHECKED_ALWAYS, none=True)
    if is_vae(config):
        _prefer_given_warmup(config)
        _check_values(config, Role.CHECKED_FOR_OURS)
        Settings.from_config(config)
    if (config["resume"] or config["resumable"]) and not can_resume(config):
        raise ValueError(
            f"{config['model']} cannot be resumed (RecBole's trainers hold more than their files "
            "do): leave out resume."
        )
    if is_sg(config):
        _check_fold_in(config)


def _check_values(config: Config, role: Role, none: bool = False) -> None:
    for name in with_role(role):
        value = config[name]
        if value is None and none:
            continue
        number = checked(name, value)
        # Tuners draw whole numbers as floats, which RecBole would not count with.
        if isinstance(value, float) and isinstance(number, int):
            config[name] = number


def _prefer_given_warmup(config: Config) -> None:
    """Let a warm-up length that the user gives replace a default of the other kind."""
    lengths = ("total_anneal_steps", "warmup_epochs")
    given = [key for key in lengths if config.external_config_dict.get(key) is not None]
    if len(given) == 1:
        (other,) = set(lengths) - set(given)
        config[other] = None


def is_vae(config: Config) -> bool:
    """Whether the config's model is one of ours, or a subclass of one."""
    model_class = getattr(config, "model_class", None)
    return inspect.isclass(model_class) and issubclass(model_class, VAERecommender)


def can_resume(config: Config) -> bool:
    """Whether the state of the config's training can be kept, for it to go on later.

    Of the trainers of other models we do not know what they hold beside weights and optimiser.
    """
    return issubclass(get_trainer(config["MODEL_TYPE"], config["model"]), VAETrainer)


def check_dataset_name(name: object) -> None:
    """Check the name of a data set, which becomes part of the paths that are read and written.

    Raises:
        ValueError: it is no name of a folder.
    """
    outside = isinstance(name, str) and (name in ("", ".", "..") or os.path.splitdrive(name)[0])
    if not isinstance(name, str) or outside or set(name) & set("/\\\0"):
        raise ValueError(
            f"dataset must be the name of a folder in data_path, not {name!r}: give a path to "
            "other data sets as data_path."
        )


def _check_fold_in(config: Config) -> None:
    """Check that the model of a config with the split by users can score an unseen user."""
    name = config["model"]
    if not getattr(config.model_class, "folds_in", False) and name not in FOLD_IN_MODELS:
        ours = ", ".join(model.__name__ for model in (*MODELS, *BASELINES))
        raise ValueError(
            f"{name} has no way to score a user it was not trained on, which the split by users "
            f"(SG) asks for. Models that can: {ours}, {', '.join(FOLD_IN_MODELS)}."
        )
    modes = set(config["eval_args"]["mode"].values())
    if modes != {"full"}:
        raise ValueError(
            f"eval_args: the split by users (SG) ranks all items: mode: full, not {modes}."
        )


def _check_clipping(config: Config) -> None:
    """Check the arguments of ``torch.nn.utils.clip_grad_norm_``, if gradients are to be clipped.

    Raises:
        ValueError: they are none, or clipping would have no effect.
    """
    given = config["clip_grad_norm"]
    if not given:
        return
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    largest = given.get("max_norm") if isinstance(given, Mapping) else None
    if not isinstance(largest, (int, float)) or not largest > 0 or set(given) - OF_CLIPPING:
        raise ValueError(
            f"clip_grad_norm must be such as {{'max_norm': {given if number else 5}}}, with a "
            f"number above 0, not {brief(given)}."
        )
    if str(config["learner"]).lower() == "adam_norm_grad":
        raise ValueError(
            "clip_grad_norm has no effect with learner adam_norm_grad, which scales all gradients "
            "to unit norm: leave it out, or take another learner, such as adam."
        )


def check_processes(config: Config, nproc: int, max_restarts: int = 0) -> None:
    """Check that a config can be trained by several processes, ``nproc`` on this machine.

    RecBole's own models are left to RecBole, which knows GPUs only.

    Raises:
        ValueError: the model cannot, there are too few GPUs, or training could not be resumed after
            one of ``max_restarts`` restarts.
    """
    name, gpus = config["model"], config["device"].type == "cuda"
    if max_restarts < 0:
        raise ValueError(f"max_restarts must be a number of at least 0, not {max_restarts}.")
    if max_restarts and not can_resume(config):
        raise ValueError(f"The training of {name} cannot be resumed: leave out max_restarts.")
    if name in (model.__name__ for model in BASELINES):
        raise ValueError(f"{name} is not trained by gradients: it runs in one process, nproc=1.")
    if is_vae(config) and not can_resume(config):
        trainer = get_trainer(config["MODEL_TYPE"], name).__name__
        raise ValueError(
            f"{name} is trained by {trainer}, which knows one process only: leave out nproc and "
            "world_size, or train it by VAETrainer or a subclass."
        )
    if not is_vae(config):
        if is_sg(config):
            raise ValueError(
                f"RecBole cannot divide {name} with the split by users (SG) among several "
                "processes: leave out nproc and world_size."
            )
        if not gpus:
            raise ValueError(
                f"RecBole trains {name} in several processes on GPUs only, and there are none: "
                "leave out nproc and world_size."
            )
    on_gpus, cores = gpus and config["use_gpu"] is not False, os.cpu_count() or 1
    # Two can be tried anywhere; many on few cores would take all of its memory, and be slow.
    if not on_gpus and nproc > max(cores, 2):
        raise ValueError(
            f"nproc={nproc} processes are more than this machine's {cores} cores: give at most one "
            "to each core."
        )
    if on_gpus and torch.cuda.device_count() < nproc:
        raise ValueError(
            f"nproc={nproc} processes need as many GPUs, and gpu_id={config['gpu_id']} gives "
            f"{torch.cuda.device_count()}: name more, such as gpu_id=0,1, or train on processors "
            "with use_gpu=False."
        )
