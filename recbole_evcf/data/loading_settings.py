"""Checks of the settings by which RecBole loads, filters and splits data, before it does.

RecBole passes over what it does not understand here, or does not do, and goes on with other data
than were asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole.config import Config
from recbole.utils import FeatureType, InputType, ModelType

from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.data.strong_generalization import PARTS, group_sizes, is_sg
from recbole_evcf.utils.text import shown

__all__ = ["check_columns", "check_label", "check_loading", "check_tested", "check_values"]

MANY_USERS = 10**9
NO_FILTER: tuple = (None, {}, "[0,inf)")


def check_loading(config: Config) -> None:
    """Check the settings of a finished ``Config`` for what RecBole would not say.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    for key in with_role(Role.INTERVAL):
        if config[key] is not None:
            check_interval(key, config[key])
    for field, values in _mapping(config, "val_interval", "{'rating': '[4,inf)'}").items():
        # Lists may hold the tokens to keep: that depends on the column.
        if not isinstance(values, (list, tuple, set)):
            check_interval(f"val_interval: {field}", values)
    for key in ("load_col", "unload_col"):
        _check_lists(config, key)
    both = set(config["load_col"] or ()) & set(config["unload_col"] or ())
    if both:
        raise ValueError(
            f"load_col and unload_col both say what to load of {shown(min(map(str, both)))}: give "
            "one of them; load_col=None loads all but unload_col."
        )
    _check_benchmark_files(config)
    _check_threshold(config)
    if config["benchmark_filename"] is None and isinstance(config["eval_args"]["split"], Mapping):
        _check_split(config["eval_args"]["split"], config["eval_args"]["order"])


def check_interval(name: str, value: object) -> None:
    """Check that RecBole reads a value as one interval or several, as in ``"[5,10);[20,inf)"``.

    Raises:
        ValueError: it would leave it out, or find nothing within.
    """
    if not all(_is_interval(part.strip()) for part in str(value).split(";")):
        raise ValueError(f'{name} must be an interval such as "[5,inf)", not {shown(value)}.')


def _is_interval(text: str) -> bool:
    try:
        low, high = map(float, text[1:-1].split(","))
    except ValueError:
        return False
    return text[0] in "([" and text[-1] in ")]" and low <= high


def check_values(val_interval: Mapping | None, kinds: Mapping) -> None:
    """Check that ``val_interval`` fits the columns that were loaded.

    Args:
        val_interval: RecBole's setting.
        kinds: RecBole's ``field2type``.

    Raises:
        ValueError: a column of numbers has no interval, or one of tokens no list.
    """
    for field, values in (val_interval or {}).items():
        if kinds.get(field) in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
            check_interval(f"val_interval: {field}", values)
        elif field in kinds and not isinstance(values, (list, tuple, set)):
            raise ValueError(
                f"val_interval: {field} must be a list of the tokens to keep, not {shown(values)}: "
                f"{field} is a column of tokens."
            )


def _check_split(split: Mapping, order: str) -> None:
    for kind in split.keys() & {"RS", "TS"}:
        shares = split[kind]
        three = isinstance(shares, (list, tuple)) and len(shares) == 3
        if not three or not all(_is_share(share) for share in shares) or shares[0] == 0:
            raise ValueError(
                f"eval_args: split: {kind} must be three numbers, for training above 0 and for "
                f"validation and test 0 or more, not {shown(shares)}."
            )
    if "SG" in split:
        # Whatever the number of users, which only the data say.
        group_sizes(split["SG"], MANY_USERS)
    if "TS" in split and order != "TO":
        raise ValueError(
            f"eval_args: split: TS splits by time and needs order: TO, not {order}: RecBole would "
            "train on interactions after its boundary."
        )


def check_label(config: Config, columns: Iterable[str]) -> None:
    """Check that a model which learns from labels gets them.

    Args:
        config: a finished ``Config``.
        columns: names of the columns of interactions, as loaded.

    Raises:
        ValueError: there is no label, and no negative samples would bring one.
    """
    label, negatives = config["LABEL_FIELD"], config["train_neg_sample_args"] or {}
    needs_it = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    if needs_it and negatives.get("distribution", "none") == "none" and label not in columns:
        raise ValueError(
            f"{config['model']} learns from labels, and {config['dataset']} has no column {label}: "
            "make one with threshold, such as threshold={'rating': 4}, or draw negative samples "
            "with train_neg_sample_args={'distribution': 'uniform', 'sample_num': 1}."
        )


def check_tested(config: Config) -> None:
    """Check that the split of a finished ``Config`` leaves something to test on.

    Raises:
        ValueError: it does not.
    """
    split = config["eval_args"]["split"]
    if config["benchmark_filename"] is not None or not isinstance(split, Mapping):
        return
    untested = any(split.get(kind, (1, 1, 1))[2] == 0 for kind in ("RS", "TS"))
    if untested or split.get("LS") == "valid_only":
        raise ValueError(f"eval_args: split: {dict(split)} leaves nothing to test on.")


def _is_share(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


def _mapping(config: Config, key: str, example: str) -> Mapping:
    value = config[key]
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{key} must be a mapping such as {example}, not {shown(value)}.")
    return value or {}


def _check_lists(config: Config, key: str) -> None:
    example = "{'inter': ['user_id', 'item_id']}"
    for suffix, columns in _mapping(config, key, example).items():
        if columns != "*" and not isinstance(columns, (list, tuple, set)):
            raise ValueError(
                f"{key}: {suffix} must be a list of columns, as in {example}, not {shown(columns)}."
            )
    if key == "load_col" and config[key] is not None and "inter" not in config[key]:
        raise ValueError(f"load_col has no columns of inter: write {example}.")


def _asked_for(config: Config, key: str, suffix: str) -> list[str]:
    """The columns that the user, and no default, names for a kind of file."""
    value = config[key]
    if not value or value == config.internal_config_dict.get(key):
        return []
    columns = value.get(suffix, ())
    return [] if columns == "*" else list(columns)


def check_columns(
    config: Config,
    suffix: str,
    path: str,
    present: Sequence[str] | None,
    required: Sequence[str] = (),
) -> None:
    """Check that a file has the columns that the user names, and that those are enough.

    Args:
        config: a finished ``Config``.
        suffix: the kind of file, such as ``inter``.
        path: the file.
        present: names of its columns; None if there is no such file.
        required: names of those that must be loaded.

    Raises:
        ValueError: there is no such column or file, or one is left out that must be loaded.
    """
    loaded = (config["load_col"] or {}).get(suffix, "*")
    for column in required:
        if loaded != "*" and column not in loaded:
            raise ValueError(f"load_col leaves out {column}, which is needed from {path}.")
    for key in ("load_col", "unload_col"):
        for column in _asked_for(config, key, suffix):
            if present is None:
                raise ValueError(f"{key}: {suffix} names columns of {path}, which does not exist.")
            if column not in present:
                raise ValueError(
                    f"{key}: {suffix} names {shown(column)}, which {path} does not have: its "
                    f"columns are {', '.join(present)}."
                )


def _check_benchmark_files(config: Config) -> None:
    files = config["benchmark_filename"]
    if files is None:
        return
    if not isinstance(files, (list, tuple)) or len(files) not in (3, len(PARTS)):
        raise ValueError(
            "benchmark_filename must be a list of three files (training, validation, test), or of "
            f"five ({', '.join(PARTS)}), not {shown(files)}."
        )
    for key in with_role(Role.FILTER):
        if config[key] not in NO_FILTER:
            raise ValueError(
                f"{key} has no effect beside benchmark_filename, whose files RecBole takes as they "
                f"are: filter them before, and leave out {key}."
            )


def _check_threshold(config: Config) -> None:
    kind = config["MODEL_TYPE"]
    if config["threshold"] is None or kind not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        return
    # Labels are read where candidates are not drawn: by evaluation, or in training.
    sampled = config["train_neg_sample_args"]["distribution"] != "none"
    trains = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and not sampled
    if not (trains and not is_sg(config)) and "labeled" not in config["eval_args"]["mode"].values():
        raise ValueError(
            f"threshold has no effect on {config['model']}, which takes each interaction for a "
            "positive one: leave out the others by val_interval, such as "
            "val_interval={'rating': '[4,inf)'}."
        )
