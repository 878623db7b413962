"""Checks of finished configs, with errors of one sentence each, before anything is loaded."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Mapping
from typing import Any

import torch
from recbole.config import Config
from recbole.evaluator.register import metric_information
from recbole.utils import get_trainer

from recbole_evcf import __version__
from recbole_evcf.config.keys import KEYS, Role, checked, with_role
from recbole_evcf.config.names import check_names
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import Settings
from recbole_evcf.trainer.checkpoint import ConfigOfSettings, plain_config
from recbole_evcf.trainer.trainer import VAETrainer
from recbole_evcf.utils.text import plain_value, shortened, shown

__all__ = [
    "can_resume",
    "check_processes",
    "check_settings",
    "is_vae",
    "odd_settings",
    "overridden",
    "plain_settings",
]


def check_settings(config: Config) -> None:
    """Check all settings of a finished ``Config``, from all sources, before anything is loaded.

    A ValueError says which key has no effect, or has a value that RecBole or the model refuses.
    """
    # Those of a model file were checked when it was trained.
    if not getattr(config, "is_restored", False):
        check_names(config)
        _check_eval_args(config)
        _check_valid_metric(config)
    _check_values(config, Role.CHECKED_ALWAYS, none=True)
    if config["clip_grad_norm"] and str(config["learner"]).lower() == "adam_norm_grad":
        raise ValueError(
            "clip_grad_norm has no effect with learner adam_norm_grad, which scales all gradients "
            "to unit norm: leave it out, or take another learner, such as adam."
        )
    if is_vae(config):
        # A length of the warm-up that the user gives replaces a default of the other kind.
        lengths = {"total_anneal_steps", "warmup_epochs"}
        others = {key for key in lengths if config.external_config_dict.get(key) is None}
        if len(others) == 1:
            config[others.pop()] = None
        _check_values(config, Role.CHECKED_FOR_OURS)
        Settings.from_config(config)
    if (config["resume"] or config["resumable"]) and not can_resume(config):
        raise ValueError(
            f"{config['model']} cannot be resumed (RecBole's trainers hold more than their files "
            "do): leave out resume."
        )
    if is_sg(config):
        _check_fold_in(config)
    for key in with_role(Role.SAVED_DATASET | Role.SAVED_SPLIT):
        if config[key] and (is_vae(config) or is_sg(config)):
            who = "the split by users (SG)" if is_sg(config) else config["model"]
            raise ValueError(
                f"{key} cannot be used with {who}, whose data RecBole does not save correctly: "
                "remove it; reading and splitting takes seconds."
            )


def _check_values(config: Config, role: Role, none: bool = False) -> None:
    for name in with_role(role):
        value = config[name]
        number = value if value is None and none else checked(name, value)
        # Tuners draw whole numbers as floats, which RecBole would not count with.
        if isinstance(value, float) and isinstance(number, int):
            config[name] = number


def is_vae(config: Config) -> bool:
    """Whether the config's model is one of ours, or a subclass of one."""
    model_class = getattr(config, "model_class", None)
    return isinstance(model_class, type) and issubclass(model_class, VAERecommender)


def can_resume(config: Config) -> bool:
    """Whether the state of the config's training can be kept, to resume it.

    Of the trainers of other models we do not know what they hold beside weights and optimiser.
    """
    return issubclass(get_trainer(config["MODEL_TYPE"], config["model"]), VAETrainer)


def _check_fold_in(config: Config) -> None:
    """Check that the model of a config with the split by users can score an unseen user."""
    name, ours = config["model"], (model.__name__ for model in (*MODELS, *BASELINES))
    if not getattr(config.model_class, "folds_in", False) and name not in FOLD_IN_MODELS:
        able = (*ours, *FOLD_IN_MODELS)
        raise ValueError(
            f"{name} has no way to score a user it was not trained on, which the split by users "
            f"(SG) asks for. Models that can: {', '.join(able)}."
        )
    modes = set(config["eval_args"]["mode"].values())
    if modes != {"full"}:
        raise ValueError(
            f"eval_args: the split by users (SG) ranks all items: mode: full, not {modes}."
        )


def overridden(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of several sources, later ones over earlier ones, ``eval_args`` part by part.

    RecBole replaces it as a whole: one without a split would silently bring back RecBole's. Another
    kind of split leaves nothing of ``fold_in_ratio``, which belongs to the split by users.
    """
    settings: dict[str, Any] = {}
    for source in sources:
        before, after = settings.get("eval_args"), source.get("eval_args")
        settings.update(source)
        if isinstance(before, dict) and isinstance(after, dict):
            split = after.get("split", {"SG": None})
            other_split = not isinstance(split, dict) or "SG" not in split
            kept = {k: v for k, v in before.items() if k != "fold_in_ratio" or not other_split}
            settings["eval_args"] = {**kept, **after}
    return settings


def _check_eval_args(config: Config) -> None:
    """Check ``eval_args``, of which RecBole leaves out what it does not know."""
    arguments, parts = config["eval_args"], with_role(Role.PART_OF_EVAL_ARGS)
    for key in arguments:
        if key not in parts:
            close = difflib.get_close_matches(str(key), parts, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"eval_args takes {', '.join(parts)}, and not {shown(key)}.{hint}")
    # They are a split by themselves.
    if config["benchmark_filename"] is not None:
        return
    for key, value in arguments.items():
        if KEYS[key].values:
            checked(key, value, f"eval_args: {key}")
    split = arguments["split"]
    if "fold_in_ratio" in arguments and "SG" not in split:
        raise ValueError(
            "eval_args: fold_in_ratio is a part of the split by users (SG), and split is "
            f"{split}: leave it out."
        )
    shares = split.get("SG")
    counted = isinstance(shares, (list, tuple)) and all(type(share) is int for share in shares)
    if counted and sum(shares) in (10, 100) and min(shares) > 0:
        raise ValueError(
            f"eval_args: split: SG: {shares!r} are counts of users, {sum(shares)} in all, and the "
            f"others would be left out: write shares, {[s / sum(shares) for s in shares]}, or -1 "
            "for all the others."
        )


def _check_valid_metric(config: Config) -> None:
    """Check that the metric which chooses the best epoch is one that will be computed."""
    # No epoch is validated.
    if isinstance(config["eval_step"], int) and config["eval_step"] <= 0:
        return
    # The keys of RecBole's results: ndcg@10, and auc, which has no cut-off.
    keys: list[str] = []
    for metric in (metric.lower() for metric in config["metrics"]):
        of_ranks = {"rec.topk", "rec.items"} & {*metric_information.get(metric, ())}
        keys += [f"{metric}@{k}" for k in config["topk"]] if of_ranks else [metric]
    if str(config["valid_metric"]).lower() not in keys:
        raise ValueError(
            f"valid_metric is {shortened(str(config['valid_metric']))}, which is not computed: "
            f"metrics is {config['metrics']} and topk {config['topk']}, which give "
            f"{shortened(', '.join(keys), 200)}."
        )


def check_processes(config: Config, nproc: int, max_restarts: int = 0) -> None:
    """Check that a config can be trained by several processes, ``nproc`` on this machine.

    RecBole's own models are left to RecBole, which knows GPUs only.

    Raises:
        ValueError: the model cannot, there are too few GPUs, or training could not be resumed after
            one of ``max_restarts`` restarts.
    """
    name, gpus, ours = config["model"], config["device"].type == "cuda", is_vae(config)
    on_gpus, cores = gpus and config["use_gpu"] is not False, os.cpu_count() or 1
    trainer = get_trainer(config["MODEL_TYPE"], name).__name__
    for wrong, sentence in (
        (max_restarts < 0, f"max_restarts must be a number of at least 0, not {max_restarts}."),
        (
            max_restarts and not can_resume(config),
            f"The training of {name} cannot be resumed: leave out max_restarts.",
        ),
        (
            name in (model.__name__ for model in BASELINES),
            f"{name} is not trained by gradients: it runs in one process, nproc=1.",
        ),
        (
            ours and not can_resume(config),
            f"{name} is trained by {trainer}, which knows one process only: leave out nproc and "
            "world_size, or train it by VAETrainer or a subclass.",
        ),
        (
            not ours and is_sg(config),
            f"RecBole cannot divide {name} with the split by users (SG) among several processes: "
            "leave out nproc and world_size.",
        ),
        (
            not ours and not gpus,
            f"RecBole trains {name} in several processes on GPUs only, and there are none: leave "
            "out nproc and world_size.",
        ),
        # Two can be tried anywhere; many on few cores would take all of its memory, and be slow.
        (
            not on_gpus and nproc > max(cores, 2),
            f"nproc={nproc} processes are more than this machine's {cores} cores: give at most one "
            "to each core.",
        ),
        (
            on_gpus and torch.cuda.device_count() < nproc,
            f"nproc={nproc} processes need as many GPUs, and gpu_id={config['gpu_id']} gives "
            f"{torch.cuda.device_count()}: name more, such as gpu_id=0,1, or train on processors "
            "with use_gpu=False.",
        ),
    ):
        if wrong:
            raise ValueError(sentence)


def odd_settings(config: Config) -> str:
    """A remark on settings of another kind than their defaults, to follow an error; often empty."""
    given = getattr(config, "external_config_dict", {})
    try:
        defaults = ConfigOfSettings(config.model, config.dataset).final_config_dict if given else {}
    except Exception:
        return ""
    odd = [
        f"{shortened(key)} is {shown(value)} and by default {shown(defaults[key])}"
        for key, value in given.items()
        if defaults.get(key) is not None and _kind_of(value) != _kind_of(defaults[key])
    ]
    return f" (perhaps since {'; '.join(odd[:3])})" if odd else ""


def _kind_of(value: Any) -> str:
    """As YAML tells values apart; a string may be a number that RecBole reads later."""
    if isinstance(value, str):
        with contextlib.suppress(SyntaxError):
            value = plain_value(value)
    return {int: "number", float: "number", tuple: "list"}.get(type(value), type(value).__name__)


def plain_settings(config: Config) -> dict[str, Any]:
    """What processes on several machines must have in common: all but paths and the like."""
    shared = plain_config(config)
    for key in with_role(Role.OF_A_MACHINE):
        shared.pop(key, None)
    # Whose state is kept is the first machine's business; that it is, all have to know.
    kept = bool(config["resume"] or config["resumable"])
    return {"recbole_evcf": __version__, "resume or resumable": kept, **shared}
