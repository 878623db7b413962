"""Which keys and models there are: others are refused, since RecBole takes any key in silence."""

from __future__ import annotations

import difflib
import functools
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from logging import getLogger
from pathlib import Path

import recbole
import torch
from recbole.config import Config
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import argument_list

from recbole_evcf.config.files import properties_path
from recbole_evcf.config.keys import KEYS, Role, with_role
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.utils.packages import import_failure
from recbole_evcf.utils.text import shortened, shown

__all__ = [
    "DECLARED",
    "check_keys_of_model",
    "check_names",
    "check_several",
    "import_fault",
    "keys_of_all_models",
    "model_names",
    "unknown_model",
]

# What the users' own models set their keys to, by class.
DECLARED: dict[type, Mapping[str, object]] = {}

MODEL_PACKAGES = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)


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


def check_names(config: Config) -> None:
    """Refuse keys without effect among all that a user gave in any source (a ValueError).

    One file may serve several models: keys of all of them are taken. A key that nobody knows and
    that resembles no other may be one of a user's model that does not declare its keys, or an
    option of the program that runs: a warning names it.
    """
    elsewhere = {*config.file_config_dict, *config.variable_config_dict}
    of_model = _keys_for(config)
    known = of_model | keys_of_all_models()
    for key, value in config.external_config_dict.items():
        if not isinstance(key, str):
            raise ValueError(f"a key must be a string, not {shown(key)}.")
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


def check_keys_of_model(config: Config, keys: Iterable[str]) -> None:
    """Refuse keys that are set for one model alone and are not read by it (a ValueError)."""
    of_model, others = _keys_for(config), keys_of_all_models()
    for key in keys:
        if key not in of_model and (key in others or not _may_have_more(config)):
            raise ValueError(_known_mistake(key, "...") or _unknown(config, key, of_model, others))


def check_several(config: Config, command: str) -> None:
    """Refuse settings of one training where a command, such as "a search", makes several."""
    for key in with_role(Role.OF_ONE_RUN):
        if config.external_config_dict.get(key) is not None:
            raise ValueError(
                f"{key} is a setting of one run, and {command} makes several: leave it out, or "
                "train that model with `recbole-evcf run`."
            )


def _known_mistake(key: str, value: object) -> str:
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
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    if not close or _may_have_more(config):
        hint += " A model of your own declares its settings: register_model(MODEL, defaults={...})."
    return f"{shortened(config['model'])} has no setting {shown(key)}.{hint}"


def _close(key: str, known: Iterable[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(key, sorted(known), n=3, cutoff=cutoff)


def unknown_model(name: str) -> ValueError:
    """The error for a model that there is not, or whose module cannot be imported."""
    if fault := import_fault(name):
        return fault
    names = {known.lower(): known for known in sorted(model_names())}
    close = [names[match] for match in _close(name.lower(), names, 0.6)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
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
    return {each.__name__ for each in (*recboles, *MODELS, *BASELINES, *DECLARED)}
