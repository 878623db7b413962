"""Checks of what users write in configs, with errors of one sentence each."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import math
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

import torch
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_trainer, set_color

from recbole_evcf import __version__
from recbole_evcf.config.evaluation import check_eval_args, check_valid_metric
from recbole_evcf.config.files import named_file
from recbole_evcf.config.keys import OWN_KEYS, new_in_1_2_1
from recbole_evcf.config.names import check_names
from recbole_evcf.config.plain_yaml import read_yaml
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.settings import Settings
from recbole_evcf.trainer.checkpoint import plain_config
from recbole_evcf.trainer.effective_settings import WITHOUT_EFFECT
from recbole_evcf.trainer.trainer import VAETrainer
from recbole_evcf.utils.literals import plain_value
from recbole_evcf.utils.plugins import import_failure
from recbole_evcf.utils.text import one_line, shortened, shown

__all__ = [
    "can_resume",
    "check_dataset_name",
    "check_processes",
    "check_seed",
    "check_settings",
    "finished_config",
    "import_fault",
    "is_vae",
    "odd_settings",
    "plain_settings",
    "prefer_given_warmup",
    "read_config_file",
    "remark_on_settings",
    "resolve_config_files",
    "settings_in_lines",
    "unknown_model",
    "with_nulls",
]

NEW_IN_1_2_1 = ("AsymKNN", "GRU4RecCPR", "SASRecCPR")
MODEL_PACKAGES = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)

# What RecBole's Config raises when a setting is wrong.
CONFIG_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def finished_config(model: str | None, dataset: str | None, config_files, settings=None) -> Config:
    """RecBole's ``Config``; whatever it raises is one sentence on what is wrong in a setting.

    Args:
        model: name of the model.
        dataset: name of the data set.
        config_files: paths or names of shipped files, in the order in which they are read.
        settings: mapping of keys that go before those of the files.

    Raises:
        ValueError: a setting is wrong.
    """
    try:
        return Config(model, dataset, config_files, dict(settings or {}))
    except CONFIG_ERRORS as error:
        text = one_line(error)
        if not isinstance(error, ValueError):
            given = {key: value for file in config_files for key, value in _content(file).items()}
            text += odd_settings(model, dataset, {**given, **(settings or {})})
        raise ValueError(text) from error


class _Defaults(Config):
    """A ``Config`` that nobody set anything in."""

    def _load_cmd_line(self):
        return {}


def remark_on_settings(config: Config) -> str:
    """As :func:`odd_settings`, on what the user of a config has set."""
    return odd_settings(config["model"], config["dataset"], config.external_config_dict)


def odd_settings(model: str | None, dataset: str | None, given: Mapping) -> str:
    """A remark on settings of another kind than their defaults, which RecBole does not check.

    Args:
        model: name of the model.
        dataset: name of the data set.
        given: the user's settings.

    Returns:
        a text to put behind an error; empty if there is nothing to remark.
    """
    try:
        defaults = _Defaults(model, dataset).final_config_dict
    except CONFIG_ERRORS:
        return ""
    odd = [
        f"{shortened(key)} is {shown(value)} and by default {shown(defaults[key])}"
        for key, value in given.items()
        if defaults.get(key) is not None and _kind_of(value) != _kind_of(defaults[key])
    ]
    return f" (perhaps since {'; '.join(odd[:3])})" if odd else ""


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
    _check_own_keys(config)
    if is_vae(config):
        _check_vae(config)
    if is_sg(config):
        _check_fold_in(config)


def _check_own_keys(config) -> None:
    for name, key in OWN_KEYS.items():
        value = config[name]
        if value is not None and not key.takes(value):
            raise ValueError(f"{name} must be {key.kind}, not {_brief(value)}.")
    if (config["resume"] or config["resumable"]) and not can_resume(config):
        raise ValueError(
            f"{config['model']} cannot be resumed (RecBole's trainers hold more than their files "
            "do): leave out resume."
        )


def _kind_of(value) -> str:
    """As YAML tells values apart; a text may be a number that RecBole reads later."""
    if isinstance(value, str):
        with contextlib.suppress(SyntaxError):
            value = plain_value(value)
    for name, kind in (("flag", bool), ("number", (int, float)), ("list", (list, tuple))):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def _content(file) -> dict:
    return read_config_file(named_file(str(file), ".yaml", "There is no config file"))


def _brief(value) -> str:
    return shortened(repr(value), 200)


def is_vae(config) -> bool:
    """Whether the config's model is one of ours, or a subclass of one."""
    model_class = getattr(config, "model_class", None)
    return inspect.isclass(model_class) and issubclass(model_class, VAERecommender)


def _check_vae(config) -> None:
    prefer_given_warmup(config)
    Settings.from_config(config)
    for key, minimum in (
        ("epochs", 0),
        ("train_batch_size", 1),
        ("eval_batch_size", 1),
        ("stopping_step", 0),
        ("eval_step", 0),
    ):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(
                f"{key} must be a whole number of at least {minimum}, not {_brief(value)}."
            )
    rate = config["learning_rate"]
    if not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise ValueError(f"learning_rate must be a number above 0, not {_brief(rate)}.")
    _check_learner(config["learner"])


def check_dataset_name(name) -> None:
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


def _check_fold_in(config) -> None:
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


def check_processes(config, nproc: int, max_restarts: int = 0) -> None:
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


def settings_in_lines(config) -> str:
    """All settings of a ``Config``, a line for each of RecBole's kinds of them.

    Of those that are None there are only the names.
    """
    left = dict(config.final_config_dict)
    lines = [f"{left.pop('model')} on {left.pop('dataset')}"]
    unset = [key for key, value in left.items() if value is None]
    for kind, keys in {**config.parameters, "Other": list(left)}.items():
        values = {key: left.pop(key) for key in list(left) if key in keys}
        named = [
            f"{set_color(key, 'cyan')}={repr(value) if isinstance(value, str) else value}"
            for key, value in values.items()
            if value is not None
        ]
        lines.append(f"{set_color(kind, 'pink')}: {', '.join(named)}")
    return "\n".join([*lines, f"{set_color('Without a value', 'pink')}: {', '.join(unset)}"])


def plain_settings(config) -> dict:
    """What processes on several machines must have in common: all but paths and the like."""
    settings = plain_config(config)
    shared = {key: value for key, value in settings.items() if key not in _OF_A_MACHINE}
    # Whose state is kept is the first machine's business; that it is, all have to know.
    kept = bool(config["resume"] or config["resumable"])
    return {"recbole_evcf": __version__, "resume or resumable": kept, **shared}


# Settings that say where, and what is shown; but machines must agree on what is reported.
_OF_A_MACHINE = (WITHOUT_EFFECT - {"config_file", "standard_error"}) | {
    "use_gpu",
    "verbose",
    "worker",
}


def check_seed(seed, name: str) -> None:
    """Check a seed before anything is done with it.

    Args:
        seed: the value, of any kind.
        name: what the user calls it.

    Raises:
        ValueError: it is no whole number from 0 to 4294967295.
    """
    key = OWN_KEYS["split_seed"]
    if not key.takes(seed):
        raise ValueError(f"{name} must be {key.kind}, not {_brief(seed)}.")


def _check_clipping(config) -> None:
    """Check the arguments of ``torch.nn.utils.clip_grad_norm_``, if gradients are to be clipped.

    Raises:
        ValueError: they are none, or clipping would have no effect.
    """
    given = config["clip_grad_norm"]
    if not given:
        return
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    largest = given.get("max_norm") if isinstance(given, Mapping) else None
    if not isinstance(largest, (int, float)) or not largest > 0 or set(given) - _OF_CLIPPING:
        raise ValueError(
            f"clip_grad_norm must be such as {{'max_norm': {given if number else 5}}}, with a "
            f"number above 0, not {_brief(given)}."
        )
    if str(config["learner"]).lower() == "adam_norm_grad":
        raise ValueError(
            "clip_grad_norm has no effect with learner adam_norm_grad, which scales all gradients "
            "to unit norm: leave it out, or take another learner, such as adam."
        )


_OF_CLIPPING = {"max_norm", "norm_type", "error_if_nonfinite", "foreach"}


def can_resume(config) -> bool:
    """Whether the state of the config's training can be kept, for it to go on later.

    Of the trainers of other models we do not know what they hold beside weights and optimiser.
    """
    return issubclass(get_trainer(config["MODEL_TYPE"], config["model"]), VAETrainer)


def prefer_given_warmup(config) -> None:
    """A warm-up length that the user gives replaces a default of the other kind."""
    given = config.external_config_dict
    for key, other in (
        ("total_anneal_steps", "warmup_epochs"),
        ("warmup_epochs", "total_anneal_steps"),
    ):
        if given.get(key) is not None and given.get(other) is None:
            config[other] = None


def _check_learner(learner) -> None:
    known = ("adam_norm_grad", "adam", "adamw", "sgd", "adagrad", "rmsprop")
    if not isinstance(learner, str) or learner.lower() not in known:
        raise ValueError(f"learner must be one of {', '.join(known)}, not {_brief(learner)}.")


def resolve_config_files(files: Iterable[str]) -> list[str]:
    """The paths of config files given by path or by the name of a shipped file.

    Files that set nothing are checked and left out: RecBole fails on a file of comments alone.

    Raises:
        ValueError: a file does not exist, or is no YAML of ``key: value`` lines; or there is no
            list of files.
    """
    if not isinstance(files, (list, tuple)):
        raise ValueError(
            f"config_file_list must be a list of files, such as ['mine.yaml'], not {_brief(files)}."
        )
    paths = [named_file(str(file), ".yaml", "There is no config file") for file in files]
    return [path for path in paths if read_config_file(path)]


def with_nulls(value):
    """Settings with null for each string ``None``, which is what YAML makes of the word."""
    if isinstance(value, dict):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nulls(item) for item in value]
    return None if value == "None" else value


def read_config_file(path: str) -> dict:
    """The settings in a config file; none if it is empty, or holds comments alone.

    Raises:
        ValueError: it cannot be read, or is no YAML of ``key: value`` lines.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid YAML ({error}).") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        content = read_yaml(text)
    except ValueError as error:
        where = ", " if str(error).startswith("line ") else ": "
        raise ValueError(f"{path}{where}{error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path} must hold lines of `key: value`; it holds a {kind}.")
    for key in content:
        if not isinstance(key, str):
            raise ValueError(f"{path}: a key must be a text, not {shown(key)}.")
    return content


def unknown_model(name: str) -> ValueError:
    """The error for a model name that neither RecBole nor this package has, nor is registered; or
    for one whose module cannot be imported."""
    fault = import_fault(name)
    if fault:
        return fault
    newer = next((known for known in NEW_IN_1_2_1 if known.lower() == name.lower()), None)
    if newer:
        return new_in_1_2_1(newer)
    names = sorted(_model_names())
    by_lower_case = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=3)
    hint = f" Did you mean {' or '.join(by_lower_case[match] for match in close)}?" if close else ""
    return ValueError(f"There is no model named {shown(name)} in RecBole or recbole_evcf.{hint}")


def import_fault(name: str) -> ValueError | None:
    """The error for a model of RecBole's whose module cannot be imported; None for others."""
    # Those two need packages of their own, without which no name is found beside theirs.
    outside = name.lower() in ("lightgbm", "xgboost")
    for package in ("exlib_recommender",) if outside else MODEL_PACKAGES:
        module = f"recbole.model.{package}.{name.lower()}"
        try:
            if name.isidentifier() and module not in sys.modules and find_spec(module):
                importlib.import_module(f"recbole.model.{package}.{name.lower()}")
        except Exception as error:
            return ValueError(f"The module of {name} cannot be imported ({import_failure(error)}).")
    return None


def _model_names() -> set[str]:
    # Registered ones of a user's own have modules there too.
    beside = "recbole.model.general_recommender."
    names = {
        name
        for module, content in list(sys.modules.items())
        if module.startswith(beside)
        for name in vars(content)
        if name.lower() == module[len(beside) :]
    }
    # One of RecBole's modules turns this on for the whole process when it is imported.
    with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):
        for package in MODEL_PACKAGES:
            module = importlib.import_module(f"recbole.model.{package}")
            names |= {
                name
                for name, value in inspect.getmembers(module, inspect.isclass)
                if issubclass(value, AbstractRecommender)
            }
    return names
