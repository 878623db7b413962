"""The keys that a setting may have: the plugin's own, RecBole's, and those of models."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import recbole
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_evcf.config.files import properties_path

__all__ = [
    "CONFIG_FILES",
    "DECLARED",
    "EVAL_ARGS",
    "LARGEST_SEED",
    "OF_SCRIPTS",
    "OWN_KEYS",
    "READ_BY_RECBOLE",
    "RENAMED",
    "keys_for",
    "keys_of_all_models",
    "new_in_1_2_1",
]

# NumPy's generator takes no larger one.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Key:
    """A key that the plugin reads for every model; None, its default, switches it off.

    Attributes:
        takes: whether it takes a value.
        kind: what a value must be, in words.
        meaning: one line.
    """

    takes: Callable[[object], bool]
    kind: str
    meaning: str


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_SEED


def _is(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


OWN_KEYS = {
    "per_user_file": Key(_is(str), "the path of a file", "CSV file of each user's test metrics"),
    "resumable": Key(_is(bool), "True or False", "keep the state of training, to go on from"),
    "resume": Key(
        _is(bool, str),
        "True, False or the path of a model file",
        "go on with the newest unfinished run of the same settings, or with that of a model file",
    ),
    "split_seed": Key(_is_seed, f"a whole number from 0 to {LARGEST_SEED}", "seed of the split"),
    "standard_error": Key(_is(bool), "True or False", "add METRIC@K_se, the error over users"),
}

# What RecBole's code reads, or makes by itself, and neither its lists nor its files name.
READ_BY_RECBOLE = (
    *("dataset", "encoding", "model", "tail_ratio", "token_num_threshold", "verbose"),
    # Of some models and of transforms.
    *("cin", "contrast", "eta", "feature_num", "has_residual", "norm", "sim", "use_filter"),
    *("CROP_ITEM_SEQ", "CROP_ITEM_SEQ_LEN", "INVERSE_ITEM_SEQ", "MASK_INDEX", "MASK_ITEM_SEQ"),
    *("NEG_ITEMS", "POS_ITEMS", "REORDER_ITEM_SEQ", "xgb_early_stopping_rounds"),
    # Of several processes, and what Config makes.
    *("ip", "local_rank", "nproc", "offset", "port", "single_spec", "world_size", "device"),
    *("MODEL_INPUT_TYPE", "MODEL_TYPE", "eval_type", "test_neg_sample_args"),
    "valid_neg_sample_args",
)
# Options of RecBole's scripts, which its Config meets on the command line.
OF_SCRIPTS = (
    *("config_files", "group_offset", "params_file", "output_file", "display_file"),
    *("max_evals", "algo", "tool"),
)
# What somebody may take for the option that names config files.
CONFIG_FILES = ("config", "config_file", "config_files", "config_file_list")
EVAL_ARGS = ("split", "order", "group_by", "mode", "fold_in_ratio")

_NUMBER = "{}_inter_num_interval, such as {}_inter_num_interval='[5,inf)'"
_VALUES = "val_interval, such as val_interval={'rating': '[4,inf)'}"
_SPLIT = "eval_args, such as eval_args={'split': {'RS': [0.8, 0.1, 0.1]}, 'order': 'TO'}"
_NEGATIVES = "train_neg_sample_args, such as train_neg_sample_args={'sample_num': 1}"
_ALIAS = "alias_of_user_id, alias_of_item_id, alias_of_entity_id or alias_of_relation_id"
# Keys of older RecBole releases, which it reads no more, and what does the same now; "" if nothing.
RENAMED = {
    "min_user_inter_num": _NUMBER.format("user", "user"),
    "max_user_inter_num": _NUMBER.format("user", "user"),
    "min_item_inter_num": _NUMBER.format("item", "item"),
    "max_item_inter_num": _NUMBER.format("item", "item"),
    "lowest_val": _VALUES,
    "highest_val": _VALUES,
    "equal_val": _VALUES,
    "not_equal_val": _VALUES,
    "drop_filter_field": "unused_col, which drops columns once they have been used",
    "fields_in_same_space": _ALIAS,
    "eval_setting": _SPLIT,
    "split_ratio": _SPLIT,
    "leave_one_num": "eval_args, such as eval_args={'split': {'LS': 'valid_and_test'}}",
    "group_by_user": "eval_args, such as eval_args={'group_by': 'user'}",
    "training_neg_sample_num": _NEGATIVES,
    "training_neg_sample_distribution": _NEGATIVES,
    "neg_sampling": _NEGATIVES,
    "real_time_process": "",
}

# What the users' own models set their keys to, by class.
DECLARED: dict[type, Mapping[str, object]] = {}


def keys_for(config) -> set[str]:
    """The keys that RecBole or the plugin reads for a config's model and data set."""
    lists = (general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    keys = {*OWN_KEYS, *READ_BY_RECBOLE, *config.internal_config_dict}.union(*lists)
    # It hands them on to its teacher, without the t_.
    teachers = _keys_in_shipped_files() if config["model"] == "KD_DAGFM" else ()
    return keys | {f"t_{key}" for key in teachers}


@functools.lru_cache(maxsize=1)
def _keys_in_shipped_files() -> frozenset[str]:
    recboles = Path(recbole.__file__).parent / "properties"
    # Those with url in their name have data sets as keys.
    files = [path for path in recboles.rglob("*.yaml") if not path.stem.endswith("url")]
    return frozenset(_keys_in([*files, *(properties_path() / "model").glob("*.yaml")]))


def _keys_in(files: Iterable[Path]) -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in files)
    return {key for text in texts for key in re.findall(r"^([\w-]+) *:", text, flags=re.M)}


def keys_of_all_models() -> set[str]:
    """The keys in RecBole's and our files, and those that users' models declare.

    One file or command line may serve several models.
    """
    return {*_keys_in_shipped_files()}.union(*DECLARED.values())


def new_in_1_2_1(what: str) -> ValueError:
    """The error for what RecBole 1.2.0 does not have."""
    return ValueError(
        f"{what} came with RecBole 1.2.1, and {recbole.__version__} is installed: Python 3.11 is "
        "the newest for which pip can install 1.2.1."
    )
