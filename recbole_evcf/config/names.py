"""A key that nobody reads is refused: RecBole takes any, and it then has no effect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from logging import getLogger

from recbole_evcf.config.keys import (
    CONFIG_FILES,
    DECLARED,
    EVAL_ARGS,
    OF_SCRIPTS,
    RENAMED,
    keys_for,
    keys_of_all_models,
)
from recbole_evcf.utils.text import shortened, shown

__all__ = ["check_keys_of_model", "check_names"]

OF_ANY_PROGRAM = (
    " (RecBole reads words --key=value from the command line of any program; it leaves --key value "
    "alone.)"
)


def check_names(config) -> None:
    """Check the keys of all settings that the user of a config gave, wherever they stand.

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
        if key in config.internal_config_dict or (of_program and key in OF_SCRIPTS):
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


def check_keys_of_model(config, keys: Iterable[str]) -> None:
    """Check that keys set for one model alone are keys that it reads, not those of other models.

    Raises:
        ValueError: one is not.
    """
    of_model, others = keys_for(config), keys_of_all_models()
    for key in keys:
        if key not in of_model and (key in others or not _may_have_more(config)):
            raise ValueError(_known_mistake(key, "...") or _unknown(config, key, of_model, others))


def _known_mistake(key: str, value: object) -> str | None:
    if key in CONFIG_FILES:
        return (
            f"{key} is no setting: name config files with --config_files=... on the command line, "
            "or with config_file_list=[...] in Python."
        )
    if key in EVAL_ARGS:
        example = shortened(repr({key: value}), 200)
        return (
            f"{key} has no effect by itself: it belongs in eval_args, such as eval_args={example}."
        )
    if key in RENAMED:
        now = f"use {RENAMED[key]}" if RENAMED[key] else "leave it out"
        return f"{key} is a setting of older RecBole releases and has no effect: {now}."
    return None


def _may_have_more(config) -> bool:
    """Whether the model is a user's own that does not declare its keys."""
    classes = config.model_class.__mro__
    own = classes[0].__module__.partition(".")[0] not in ("recbole", "recbole_evcf")
    return own and not any(DECLARED.get(base) for base in classes)


def _unknown(config, key: str, of_model: set[str], known: set[str]) -> str:
    name = shortened(config["model"])
    close = _close(key, of_model, 0.7) or _close(key, known, 0.7)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    if not close or _may_have_more(config):
        hint += " A model of your own declares its settings: register_model(MODEL, defaults={...})."
    return f"{name} has no setting {shown(key)}.{hint}"


def _close(key: str, known: set[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(key, sorted(known), n=3, cutoff=cutoff)
