"""Checks of settings and names, with errors of one sentence, before anything is loaded.

RecBole takes any key in silence: those that have no effect are refused here.
"""

import contextlib
import difflib
import functools
import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path
from typing import Any

import recbole
import torch
from recbole.config import Config
from recbole.evaluator.register import metric_information
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import argument_list, get_trainer

from recbole_evcf import __version__
from recbole_evcf.config.files import properties_path
from recbole_evcf.config.keys import KEYS, Role, checked, whole, with_role
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.model.baseline import Baseline
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import Settings
from recbole_evcf.trainer.checkpoint import ConfigOfSettings, plain_config
from recbole_evcf.trainer.trainer import VAETrainer
from recbole_evcf.utils.packages import import_failure
from recbole_evcf.utils.text import plain_value, shortened, shown

# What the users' own models set their keys to, by class.
DECLARED: dict[type, Mapping[str, object]] = {}

MODEL_PACKAGES = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)


def check_settings(config: Config) -> None:
    """Refuse what has no effect, and values that RecBole or the model refuses (a ValueError)."""
    # Those of a model file were checked when it was trained.
    if not getattr(config, "is_restored", False):
        _check_names(config)
        _check_eval_args(config)
        _check_valid_metric(config)
    _check_values(config, with_role(Role.CHECKED_ALWAYS), none=True)
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
        _check_values(config, with_role(Role.CHECKED_FOR_OURS))
        Settings.from_config(config)
        _check_sparse_gradients(config)
    if is_ours(config):
        _check_values(config, config.model_class.KEYS)
    elif config["train_batch_size"] == "auto":
        raise ValueError(
            "train_batch_size: auto is for models of recbole_evcf: give a number for "
            f"{config['model']}."
        )
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


def _check_values(config: Config, names: Iterable[str], none: bool = False) -> None:
    for name in names:
        value = config[name]
        number = value if value is None and none else checked(name, value)
        # Tuners draw whole numbers as floats, which RecBole would not count with.
        if isinstance(value, float) and isinstance(number, int):
            config[name] = number


def sparse_gradients(config: Config) -> list[str]:
    """The keys of one of our models that make gradients of a table sparse, and are set."""
    return [key for key in with_role(Role.SPARSE_GRADIENTS) if config[key]]


def _check_sparse_gradients(config: Config) -> None:
    learner = str(config["learner"]).lower()
    faults = {
        f"learner {learner}": learner not in ("adam_norm_grad", "adam"),
        "weight_decay": config["weight_decay"],
        "clip_grad_norm": config["clip_grad_norm"],
    }
    for key in sparse_gradients(config):
        for other in (name for name, is_set in faults.items() if is_set):
            raise ValueError(
                f"{other} cannot be used with {key}, whose gradients have the rows of a few items "
                "alone: leave one of the two out; learner may be adam_norm_grad or adam."
            )


def is_vae(config: Config) -> bool:
    """Whether the config's model is one of our networks, or a subclass of one."""
    return _is_a(config, VAERecommender)


def is_ours(config: Config) -> bool:
    """Whether the config's model is one of our networks or baselines, or a subclass of one."""
    return _is_a(config, VAERecommender, Baseline)


def _is_a(config: Config, *classes: type) -> bool:
    model_class = getattr(config, "model_class", None)
    return isinstance(model_class, type) and issubclass(model_class, classes)


def can_resume(config: Config) -> bool:
    """Whether the state of the config's training can be kept, to resume it."""
    # Of the trainers of other models we do not know what they hold beside weights and optimiser.
    return issubclass(get_trainer(config["MODEL_TYPE"], config["model"]), VAETrainer)


def _check_fold_in(config: Config) -> None:
    name = config["model"]
    if not getattr(config.model_class, "folds_in", False) and name not in FOLD_IN_MODELS:
        able = [*(model.__name__ for model in MODELS), *FOLD_IN_MODELS]
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
            hint = _did_you_mean(_close(str(key), parts, 0.6)[:1])
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
    counted = isinstance(shares, (list, tuple)) and all(type(s) is int and s > 0 for s in shares)
    if counted and sum(shares) in (10, 100):
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
    whole(0).checked("max_restarts", max_restarts)
    for wrong, sentence in (
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
            ours and sparse_gradients(config),
            f"{' and '.join(sparse_gradients(config))} cannot be divided among several processes: "
            "leave out nproc and world_size.",
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


def _keys_for(config: Config) -> set[str]:
    """The keys that RecBole or the plugin reads for a config's model and data set."""
    ours = with_role(Role.OF_PLUGIN | Role.READ_BY_RECBOLE)
    lists = (keys for keys in vars(argument_list).values() if isinstance(keys, list))
    # This one hands them on to its teacher, without the t_.
    teachers = _keys_in_shipped_files() if config["model"] == "KD_DAGFM" else ()
    return {*ours, *config.internal_config_dict}.union(*lists, (f"t_{key}" for key in teachers))


@functools.lru_cache(maxsize=1)
def _keys_in_shipped_files() -> frozenset[str]:
    recboles = Path(recbole.__file__).parent / "properties"
    # Those with url in their name have data sets as keys.
    files = [path for path in recboles.rglob("*.yaml") if not path.stem.endswith("url")]
    files += (properties_path() / "model").glob("*.yaml")
    texts = (path.read_text(encoding="utf-8") for path in files)
    return frozenset(key for text in texts for key in re.findall(r"^([\w-]+) *:", text, flags=re.M))


def keys_of_all_models() -> set[str]:
    """The keys in RecBole's and our files, and those that users' models declare."""
    return {*_keys_in_shipped_files()}.union(*DECLARED.values())


def _check_names(config: Config) -> None:
    """Refuse keys without effect among all that a user gave in any source.

    One file may serve several models: keys of all of them are taken. A key that nobody knows and
    that resembles no other may be one of a user's model that does not declare its keys, or an
    option of the program that runs: a warning names it.
    """
    elsewhere = {*config.file_config_dict, *config.variable_config_dict}
    of_model = _keys_for(config)
    known = of_model | keys_of_all_models()
    for key, value in config.external_config_dict.items():
        of_program = key in config.cmd_config_dict and key not in elsewhere
        option = of_program and key in with_role(Role.OPTION_OF_SCRIPTS)
        if key in config.internal_config_dict or option:
            continue
        mistake = _known_mistake(key, value)
        if not mistake and key not in known:
            if _close(key, known, 0.8) or not (of_program or _may_have_more(config)):
                mistake = _unknown(config, key, of_model, known)
            else:
                getLogger().warning(
                    f"{shortened(key)} is no setting of RecBole or recbole_evcf: it has an effect "
                    "only if code of your own reads it."
                )
        if mistake:
            file = getattr(config, "file_of_key", {}).get(key)
            hint = " (RecBole reads words --key=value from the command line of any program; it "
            hint += "leaves --key value alone.)"
            raise ValueError((f"{file}: " if file else "") + mistake + (hint if of_program else ""))


def check_one_of_several(config: Config, command: str, keys: Iterable[str], where: str) -> None:
    """Check a config of a command, such as "a search", that trains several times.

    A ValueError names settings of one training, and those of ``keys``, which ``where`` sets for
    this model alone, that the model does not read.
    """
    for key in with_role(Role.OF_ONE_RUN):
        if config.external_config_dict.get(key) is not None:
            raise ValueError(
                f"{key} is a setting of one run, and {command} makes several: leave it out, or "
                "train that model with `recbole-evcf run`."
            )
    of_model, others = _keys_for(config), keys_of_all_models()
    for key in keys:
        if key not in of_model and (key in others or not _may_have_more(config)):
            mistake = _known_mistake(key, "...") or _unknown(config, key, of_model, others)
            raise ValueError(f"{where}: {mistake}")


def _known_mistake(key: str, value: object) -> str:
    if not isinstance(key, str):
        return f"a key must be a string, not {shown(key)}."
    roles = KEYS[key].roles if key in KEYS else Role.NONE
    if roles & Role.NAMES_CONFIG_FILES:
        return (
            f"{key} is no setting: name config files with --config_files=... on the command line, "
            "or with config_file_list=[...] in Python."
        )
    if roles & Role.PART_OF_EVAL_ARGS:
        example = shortened(repr({key: value}), 200)
        return (
            f"{key} has no effect by itself: it belongs in eval_args, such as eval_args={example}."
        )
    if roles & Role.OF_OLDER_RELEASES:
        now = f"use {KEYS[key].help}" if KEYS[key].help else "leave it out"
        return f"{key} is a setting of older RecBole releases and has no effect: {now}."
    return ""


def _may_have_more(config: Config) -> bool:
    """Whether the model is a user's own that does not declare its keys."""
    classes = config.model_class.__mro__
    own = classes[0].__module__.partition(".")[0] not in ("recbole", "recbole_evcf")
    return own and not any(map(DECLARED.get, classes))


def _unknown(config: Config, key: str, of_model: set[str], known: set[str]) -> str:
    close = _close(key, of_model, 0.7) or _close(key, known, 0.7)
    hint = _did_you_mean(close)
    if not close or _may_have_more(config):
        hint += " A model of your own declares its settings: register_model(MODEL, defaults={...})."
    return f"{shortened(config['model'])} has no setting {shown(key)}.{hint}"


def _close(key: str, known: Iterable[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(key, sorted(known), n=3, cutoff=cutoff)


def _did_you_mean(close: list[str]) -> str:
    return f" Did you mean {' or '.join(close)}?" if close else ""


def unknown_model(name: str) -> ValueError:
    """The error for a model that there is not, or whose module cannot be imported."""
    if fault := import_fault(name):
        return fault
    names = {known.lower(): known for known in sorted(model_names())}
    hint = _did_you_mean([names[match] for match in _close(name.lower(), names, 0.6)])
    return ValueError(f"There is no model named {shown(name)} in RecBole or recbole_evcf.{hint}")


def import_fault(name: str) -> ValueError | None:
    """The error for a model of RecBole's whose module cannot be imported; None for others."""
    # Those two need packages of their own, without which no name is found beside theirs.
    outside = name.lower() in ("lightgbm", "xgboost")
    for package in ("exlib_recommender",) if outside else MODEL_PACKAGES:
        module = f"recbole.model.{package}.{name.lower()}"
        try:
            if name.isidentifier() and module not in sys.modules and find_spec(module):
                import_module(f"recbole.model.{package}.{name.lower()}")
        except Exception as error:
            return ValueError(f"The module of {name} cannot be imported ({import_failure(error)}).")
    return None


def model_names() -> set[str]:
    """The names of all models: RecBole's, ours and registered ones."""
    # One of RecBole's modules turns this on for the whole process when it is imported.
    with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):
        modules = [import_module(f"recbole.model.{package}") for package in MODEL_PACKAGES]
    classes = (each for module in modules for each in vars(module).values())
    recboles = (c for c in classes if isinstance(c, type) and issubclass(c, AbstractRecommender))
    return {each.__name__ for each in (*recboles, *MODELS, *DECLARED)}
