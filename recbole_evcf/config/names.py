"""Which keys there are; one that nobody reads is refused, since RecBole takes any in silence."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from logging import getLogger
from pathlib import Path

import recbole
from recbole.config import Config
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_evcf.config.files import properties_path
from recbole_evcf.config.keys import KEYS, Role, with_role
from recbole_evcf.utils.text import shortened, shown

__all__ = [
    "DECLARED",
    "check_keys_of_model",
    "check_names",
    "check_several",
    "keys_for",
    "keys_of_all_models",
    "new_in_1_2_1",
]

# What the users' own models set their keys to, by class.
DECLARED: dict[type, Mapping[str, object]] = {}

OF_ANY_PROGRAM = (
    " (RecBole reads words --key=value from the command line of any program; it leaves --key value "
    "alone.)"
)


def keys_for(config: Config) -> set[str]:
    """The keys that RecBole or the plugin reads for a config's model and data set."""
    lists = (general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    ours = with_role(Role.OF_PLUGIN | Role.READ_BY_RECBOLE)
    keys = {*ours, *config.internal_config_dict}.union(*lists)
    # It hands them on to its teacher, without the t_.
    teachers = _keys_in_shipped_files() if config["model"] == "KD_DAGFM" else ()
    return keys | {f"t_{key}" for key in teachers}


@functools.lru_cache(maxsize=1)
def _keys_in_shipped_files() -> frozenset[str]:
    recboles = Path(recbole.__file__).parent / "properties"
    # Those with url in their name have data sets as keys.
    files = [path for path in recboles.rglob("*.yaml") if not path.stem.endswith("url")]
    files += (properties_path() / "model").glob("*.yaml")
    texts = (path.read_text(encoding="utf-8") for path in files)
    return frozenset(key for text in texts for key in re.findall(r"^([\w-]+) *:", text, flags=re.M))


def keys_of_all_models() -> set[str]:
    """The keys in RecBole's and our files, and those that users' models declare.

    One file or command line may serve several models.
    """
    return {*_keys_in_shipped_files()}.union(*DECLARED.values())


def check_names(config: Config) -> None:
    """Check the keys of all settings that the user of a config gave, in any source.

    Those that only other models read are taken, since one file may serve several models. A key
    that nobody knows and that resembles no other may be one of a model of the user's own that does
    not declare its keys, or an option of the program that runs: a warning names it.

    Raises:
        ValueError: a key has no effect.
    """
    given, words = config.external_config_dict, config.cmd_config_dict
    elsewhere = {*config.file_config_dict, *config.variable_config_dict}
    of_model = keys_for(config)
    known = of_model | keys_of_all_models()
    for key, value in given.items():
        if not isinstance(key, str):
            raise ValueError(f"a key must be a string, not {shown(key)}.")
        of_program = key in words and key not in elsewhere
        if key in config.internal_config_dict or (of_program and _is(key, Role.OPTION_OF_SCRIPTS)):
            continue
        mistake = _known_mistake(key, value)
        if mistake is None and key not in known:
            if not (of_program or _may_have_more(config)) or _close(key, known, 0.8):
                mistake = _unknown(config, key, of_model, known)
            else:
                getLogger().warning(
                    f"{shortened(key)} is no setting of RecBole or recbole_evcf: it has an effect "
                    "only if code of your own reads it."
                )
        if mistake:
            file = getattr(config, "file_of_key", {}).get(key)
            where = f"{file}: " if file else ""
            raise ValueError(where + mistake + (OF_ANY_PROGRAM if of_program else ""))


def check_keys_of_model(config: Config, keys: Iterable[str]) -> None:
    """Check that keys set for one model alone are keys that it reads, not those of other models.

    Raises:
        ValueError: one is not.
    """
    of_model, others = keys_for(config), keys_of_all_models()
    for key in keys:
        if key not in of_model and (key in others or not _may_have_more(config)):
            raise ValueError(_known_mistake(key, "...") or _unknown(config, key, of_model, others))


def check_several(config: Config, command: str) -> None:
    """Check that no setting is one of a single training, where a command trains several models.

    Args:
        config: with the settings for all of them.
        command: what trains them, as an error names it.

    Raises:
        ValueError: one is.
    """
    for key in with_role(Role.OF_ONE_RUN):
        if config.external_config_dict.get(key) is not None:
            raise ValueError(
                f"{key} is a setting of one run, and {command} makes several: leave it out, or "
                "train that model with `recbole-evcf run`."
            )


def new_in_1_2_1(what: str) -> ValueError:
    """The error for what RecBole 1.2.0 does not have."""
    return ValueError(
        f"{what} came with RecBole 1.2.1, and {recbole.__version__} is installed: Python 3.11 is "
        "the newest for which pip can install 1.2.1."
    )


def _is(key: str, role: Role) -> bool:
    return key in KEYS and bool(KEYS[key].roles & role)


def _known_mistake(key: str, value: object) -> str | None:
    if _is(key, Role.NAMES_CONFIG_FILES):
        return (
            f"{key} is no setting: name config files with --config_files=... on the command line, "
            "or with config_file_list=[...] in Python."
        )
    if _is(key, Role.PART_OF_EVAL_ARGS):
        example = shortened(repr({key: value}), 200)
        return (
            f"{key} has no effect by itself: it belongs in eval_args, such as eval_args={example}."
        )
    if _is(key, Role.OF_OLDER_RELEASES):
        now = f"use {KEYS[key].help}" if KEYS[key].help else "leave it out"
        return f"{key} is a setting of older RecBole releases and has no effect: {now}."
    return None


def _may_have_more(config: Config) -> bool:
    """Whether the model is a user's own that does not declare its keys."""
    classes = config.model_class.__mro__
    own = classes[0].__module__.partition(".")[0] not in ("recbole", "recbole_evcf")
    return own and not any(DECLARED.get(base) for base in classes)


def _unknown(config: Config, key: str, of_model: set[str], known: set[str]) -> str:
    name = shortened(config["model"])
    close = _close(key, of_model, 0.7) or _close(key, known, 0.7)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    if not close or _may_have_more(config):
        hint += " A model of your own declares its settings: register_model(MODEL, defaults={...})."
    return f"{name} has no setting {shown(key)}.{hint}"


def _close(key: str, known: set[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(key, sorted(known), n=3, cutoff=cutoff)
