"""Checks of the settings by which RecBole filters and splits data, before it does.

RecBole passes over what it does not understand here, or does not do, and continues with other data
than were asked for.
"""

from collections.abc import Iterable

from recbole.config import Config
from recbole.utils import InputType, ModelType

from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.data.strong_generalization import group_sizes, is_sg, three_numbers
from recbole_evcf.utils.text import shown

MANY_USERS = 10**9
NO_FILTER: tuple = (None, {}, "[0,inf)")


def check_loading(config: Config) -> None:
    """Check the settings of a finished ``Config`` for what RecBole would not say.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    _check_threshold(config)
    if config["benchmark_filename"] is not None:
        for key in with_role(Role.FILTER):
            if config[key] not in NO_FILTER:
                raise ValueError(
                    f"{key} has no effect beside benchmark_filename, whose files RecBole takes as "
                    f"they are: filter them before, and leave out {key}."
                )
        return
    split, order = config["eval_args"]["split"], config["eval_args"]["order"]
    for kind in split.keys() & {"RS", "TS"}:
        shares = split[kind]
        if not three_numbers(shares) or min(shares) < 0 or shares[0] == 0:
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


def _check_threshold(config: Config) -> None:
    """Labels are read where candidates are not drawn: by evaluation, or in training."""
    kind = config["MODEL_TYPE"]
    if config["threshold"] is None or kind not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        return
    sampled = config["train_neg_sample_args"]["distribution"] != "none"
    trains = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and not sampled
    if (is_sg(config) or not trains) and "labeled" not in config["eval_args"]["mode"].values():
        raise ValueError(
            f"threshold has no effect on {config['model']}, which takes each interaction for a "
            "positive one: leave out the others by val_interval, such as "
            "val_interval={'rating': '[4,inf)'}."
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
    if config["benchmark_filename"] is not None:
        return
    untested = any(split.get(kind, (1, 1, 1))[2] == 0 for kind in ("RS", "TS"))
    if untested or split.get("LS") == "valid_only":
        raise ValueError(f"eval_args: split: {dict(split)} leaves nothing to test on.")
