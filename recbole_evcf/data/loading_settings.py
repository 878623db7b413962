"""Checks of the settings by which RecBole loads, filters and splits data, before it does.

RecBole passes over what it does not understand here, or does not do, and continues with other data
than were asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from recbole.config import Config
from recbole.utils import FeatureType, InputType, ModelType

from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.data.strong_generalization import PARTS, group_sizes, is_sg, three_numbers
from recbole_evcf.utils.text import shown

__all__ = ["check_columns", "check_label", "check_loading", "check_tested", "check_values"]

MANY_USERS = 10**9
NO_FILTER: tuple = (None, {}, "[0,inf)")
LISTS = (list, tuple, set)
COLUMNS = "{'inter': ['user_id', 'item_id']}"
EXAMPLES = {"val_interval": "{'rating': '[4,inf)'}", "load_col": COLUMNS, "unload_col": COLUMNS}


def check_loading(config: Config) -> None:
    """Check the settings of a finished ``Config`` for what RecBole would not say.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    for fault in itertools.chain(_of_columns(config), _of_files(config), _of_splits(config)):
        raise ValueError(fault)


def _of_columns(config: Config) -> Iterator[str]:
    for key, example in EXAMPLES.items():
        if config[key] is not None and not isinstance(config[key], Mapping):
            yield f"{key} must be a mapping such as {example}, not {shown(config[key])}."
    intervals = {key: config[key] for key in with_role(Role.INTERVAL) if config[key] is not None}
    for field, values in (config["val_interval"] or {}).items():
        # Lists may hold the tokens to keep: that depends on the column.
        if not isinstance(values, LISTS):
            intervals[f"val_interval: {field}"] = values
    for name, value in intervals.items():
        yield from _of_interval(name, value)
    load, unload = config["load_col"], config["unload_col"] or {}
    for key, kinds in (("load_col", load or {}), ("unload_col", unload)):
        for kind, columns in kinds.items():
            if columns != "*" and not isinstance(columns, LISTS):
                yield (
                    f"{key}: {kind} must be a list of columns, as in {COLUMNS}, not "
                    f"{shown(columns)}."
                )
    if load is not None and "inter" not in load:
        yield f"load_col has no columns of inter: write {COLUMNS}."
    if both := set(load or ()) & set(unload):
        yield (
            f"load_col and unload_col both say what to load of {shown(min(map(str, both)))}: give "
            "one of them; load_col=None loads all but unload_col."
        )


def _of_interval(name: str, value: object) -> Iterator[str]:
    """RecBole reads one interval or several, as in ``"[5,10);[20,inf)"``, and leaves out others."""
    if not all(_is_interval(part.strip()) for part in str(value).split(";")):
        yield f'{name} must be an interval such as "[5,inf)", not {shown(value)}.'


def _is_interval(text: str) -> bool:
    try:
        low, high = map(float, text[1:-1].split(","))
    except ValueError:
        return False
    return text[0] in "([" and text[-1] in ")]" and low <= high


def _of_files(config: Config) -> Iterator[str]:
    files = config["benchmark_filename"]
    if files is None:
        return
    if not isinstance(files, (list, tuple)) or len(files) not in (3, len(PARTS)):
        yield (
            "benchmark_filename must be a list of three files (training, validation, test), or of "
            f"five ({', '.join(PARTS)}), not {shown(files)}."
        )
    for key in with_role(Role.FILTER):
        if config[key] not in NO_FILTER:
            yield (
                f"{key} has no effect beside benchmark_filename, whose files RecBole takes as they "
                f"are: filter them before, and leave out {key}."
            )


def _of_splits(config: Config) -> Iterator[str]:
    arguments, kind = config["eval_args"], config["MODEL_TYPE"]
    split, order = arguments["split"], arguments["order"]
    if config["threshold"] is not None and kind in (ModelType.GENERAL, ModelType.TRADITIONAL):
        # Labels are read where candidates are not drawn: by evaluation, or in training.
        sampled = config["train_neg_sample_args"]["distribution"] != "none"
        trains = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and not sampled
        if (is_sg(config) or not trains) and "labeled" not in arguments["mode"].values():
            yield (
                f"threshold has no effect on {config['model']}, which takes each interaction for a "
                "positive one: leave out the others by val_interval, such as "
                f"val_interval={EXAMPLES['val_interval']}."
            )
    if config["benchmark_filename"] is not None or not isinstance(split, Mapping):
        return
    for kind in split.keys() & {"RS", "TS"}:
        shares = split[kind]
        if not three_numbers(shares) or min(shares) < 0 or shares[0] == 0:
            yield (
                f"eval_args: split: {kind} must be three numbers, for training above 0 and for "
                f"validation and test 0 or more, not {shown(shares)}."
            )
    if "SG" in split:
        # Whatever the number of users, which only the data say.
        group_sizes(split["SG"], MANY_USERS)
    if "TS" in split and order != "TO":
        yield (
            f"eval_args: split: TS splits by time and needs order: TO, not {order}: RecBole would "
            "train on interactions after its boundary."
        )


def check_values(val_interval: Mapping | None, kinds: Mapping) -> None:
    """Raise a ValueError if ``val_interval`` does not fit the kinds of the columns, by name."""
    for field, values in (val_interval or {}).items():
        if kinds.get(field) in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
            for fault in _of_interval(f"val_interval: {field}", values):
                raise ValueError(fault)
        elif field in kinds and not isinstance(values, LISTS):
            raise ValueError(
                f"val_interval: {field} must be a list of the tokens to keep, not {shown(values)}: "
                f"{field} is a column of tokens."
            )


def check_label(config: Config, columns: Iterable[str]) -> None:
    """Raise a ValueError if a model that learns from labels finds none among the columns."""
    label, negatives = config["LABEL_FIELD"], config["train_neg_sample_args"] or {}
    needs_it = config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE)
    if needs_it and negatives.get("distribution", "none") == "none" and label not in columns:
        raise ValueError(
            f"{config['model']} learns from labels, and {config['dataset']} has no column {label}: "
            "make one with threshold, such as threshold={'rating': 4}, or draw negative samples "
            "with train_neg_sample_args={'distribution': 'uniform', 'sample_num': 1}."
        )


def check_tested(config: Config) -> None:
    """Raise a ValueError if the split of a finished ``Config`` leaves nothing to test on."""
    split = config["eval_args"]["split"]
    if config["benchmark_filename"] is not None or not isinstance(split, Mapping):
        return
    untested = any(split.get(kind, (1, 1, 1))[2] == 0 for kind in ("RS", "TS"))
    if untested or split.get("LS") == "valid_only":
        raise ValueError(f"eval_args: split: {dict(split)} leaves nothing to test on.")


def check_columns(
    config: Config,
    suffix: str,
    path: str,
    present: Sequence[str] | None,
    required: Sequence[str] = (),
) -> None:
    """Check that a file has the columns that the user names, and that those are enough.

    Args:
        suffix, path: the kind of file, such as ``inter``, and where it is.
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
        columns = (config[key] or {}).get(suffix, "*")
        # Those of a default need not be there.
        if columns == "*" or config[key] == config.internal_config_dict.get(key):
            continue
        for column in columns:
            if present is None:
                raise ValueError(f"{key}: {suffix} names columns of {path}, which does not exist.")
            if column not in present:
                raise ValueError(
                    f"{key}: {suffix} names {shown(column)}, which {path} does not have: its "
                    f"columns are {', '.join(present)}."
                )
