"""Checks of what users write in configs, with errors of one sentence each."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import os

import torch
import yaml
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.settings import Settings
from recbole_evcf.resources import shipped_names, shipped_yaml
from recbole_evcf.trainer.checkpoint import plain_config
from recbole_evcf.version import __version__

__all__ = [
    "check_config",
    "check_fold_in",
    "check_processes",
    "check_split_seed",
    "finished_config",
    "is_vae",
    "one_line",
    "plain_settings",
    "prefer_given_warmup",
    "resolve_config_files",
    "unknown_model",
]

MODEL_PACKAGES = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)

# What RecBole's Config raises when a setting is wrong.
CONFIG_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    ImportError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
)


def finished_config(model: str, dataset: str, config_files, settings=None) -> Config:
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
        return Config(model, dataset, list(config_files), dict(settings or {}))
    except CONFIG_ERRORS as error:
        raise ValueError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """An exception's text, or its name if it has none."""
    # str() of a KeyError is quoted.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def is_vae(config) -> bool:
    """Whether the config's model is one of ours, or a subclass of one."""
    model_class = getattr(config, "model_class", None)
    return inspect.isclass(model_class) and issubclass(model_class, VAERecommender)


def check_config(config) -> None:
    """Check the values of a finished ``Config`` for one of our models.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
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
            raise ValueError(f"{key} must be a whole number of at least {minimum}, not {value!r}.")
    rate = config["learning_rate"]
    if not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise ValueError(f"learning_rate must be a number above 0, not {rate!r}.")
    _check_learner(config["learner"])
    _check_valid_metric(config)


def check_fold_in(config) -> None:
    """Check that the model of a config with the split by users can score an unseen user.

    Raises:
        ValueError: it cannot, or the evaluation is not the full ranking that the split needs.
    """
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


def check_processes(config, nproc: int) -> None:
    """Check that a config can be trained by several processes, ``nproc`` on this machine.

    RecBole's own models are left to RecBole, which knows GPUs only.

    Raises:
        ValueError: the model cannot, or there are too few GPUs.
    """
    name, gpus = config["model"], config["device"].type == "cuda"
    if name in (model.__name__ for model in BASELINES):
        raise ValueError(f"{name} is not trained by gradients: it runs in one process, nproc=1.")
    if not is_vae(config):
        if not gpus:
            raise ValueError(
                f"RecBole trains {name} in several processes on GPUs only, and there are none: "
                "leave out nproc and world_size."
            )
        if is_sg(config):
            raise ValueError(
                f"RecBole cannot divide {name} with the split by users (SG) among several "
                "processes: leave out nproc and world_size."
            )
    if config["resume"]:
        raise ValueError("resume goes on in one process: leave out nproc and world_size.")
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


def plain_settings(config) -> dict:
    """What processes on several machines must have in common: all but paths and the like."""
    settings = plain_config(config)
    shared = {key: value for key, value in settings.items() if key not in _OF_A_MACHINE}
    return {"recbole_evcf": __version__, **shared}


# Settings that say where, and what is shown.
_OF_A_MACHINE = {
    "checkpoint_dir",
    "data_path",
    "dataloaders_save_path",
    "dataset_save_path",
    "gpu_id",
    "log_wandb",
    "per_user_file",
    "save_dataloaders",
    "save_dataset",
    "show_progress",
    "state",
    "use_gpu",
    "verbose",
    "wandb_project",
    "worker",
}


def check_split_seed(config) -> None:
    """Check the seed of the split.

    Raises:
        ValueError: it is no whole number of at least 0.
    """
    seed = config["split_seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise ValueError(f"split_seed must be a whole number of at least 0, not {seed!r}.")


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
        raise ValueError(f"learner must be one of {', '.join(known)}, not {learner!r}.")


def _check_valid_metric(config) -> None:
    name, _, k = str(config["valid_metric"]).partition("@")
    computed = [metric.lower() for metric in config["metrics"]]
    if name.lower() not in computed or (k and k not in map(str, config["topk"])):
        raise ValueError(
            f"valid_metric is {config['valid_metric']}, which is not computed: "
            f"metrics is {config['metrics']} and topk {config['topk']}."
        )


def resolve_config_files(files) -> list[str]:
    """The paths of config files given by path or by the name of a shipped file.

    Raises:
        ValueError: a file does not exist, or is no YAML of ``key: value`` lines.
    """
    return [_checked_yaml(_config_path(str(file))) for file in files]


def _config_path(file: str) -> str:
    if os.path.isfile(file):
        return file
    shipped = shipped_yaml(file)
    if shipped is None:
        raise ValueError(
            f"There is no config file {file}; the package ships {', '.join(shipped_names())}."
        )
    return str(shipped)


def _checked_yaml(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{where}: not valid YAML ({error.problem}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({str(error).splitlines()[0]}).") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold lines of `key: value`; it holds {_kind(content)}.")
    return path


def _kind(content) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"


def unknown_model(name: str) -> ValueError:
    """The error for a model name that neither RecBole nor this package has."""
    names = sorted(_model_names())
    by_lower_case = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=3)
    hint = f" Did you mean {' or '.join(by_lower_case[match] for match in close)}?" if close else ""
    return ValueError(f"There is no model named {name!r} in RecBole or recbole_evcf.{hint}")


def _model_names() -> set[str]:
    names = {model.__name__ for model in (*MODELS, *BASELINES)}
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
