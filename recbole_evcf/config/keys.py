"""The one table of config keys: what each takes, what it is for, and what it has an effect on.

Checks, roles, ``--help`` and the guide's tables are made from it. It lists the plugin's keys and
those of RecBole's that the plugin checks or treats in a way of its own; RecBole's other keys are
in RecBole's lists and files, which :mod:`recbole_evcf.config.checks` reads. Nothing heavy is
imported here: ``--help`` needs the table at once.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from recbole_evcf.utils.text import shortened

# Far below what overflows in single precision where it is squared.
LARGEST = 10**12
# Beyond it whole numbers do not fit into 64 bits.
LARGEST_WHOLE = 2**62
# NumPy's generator takes no larger one.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Values:
    """The values that a key takes: type and range in the guide's tables, the words of an error, a
    test of a value and its conversion to what the package uses."""

    type: str
    expected: str
    takes: Callable[[Any], bool]
    range: str = ""
    convert: Callable[[Any], Any] = lambda value: value

    def checked(self, name: str, value: object) -> Any:
        """The value of a key as the package uses it; a ValueError names both if it takes none."""
        with suppress(ValueError, OverflowError):
            if self.takes(value):
                return self.convert(value)
        said = shortened(repr(value), 200)
        raise ValueError(f"{name} must be {self.expected}, not {said}.")


def _number(none: bool = False, whole: bool = False, **limits: float) -> Values:
    """Finite numbers within limits, and perhaps None; tuners draw whole ones as floats."""
    least, above = limits.get("least", -math.inf), limits.get("above", -math.inf)
    most = limits.get("most", LARGEST_WHOLE if whole else math.inf)
    below = limits.get("below", math.inf)

    def takes(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return none and value is None
        return least <= value <= most and above < value < below and not (whole and value % 1)

    names = {"least": "at least", "most": "at most"}
    said = " and ".join(f"{names.get(key, key)} {limit}" for key, limit in limits.items())
    words = f"{'a whole number' if whole else 'a number'}{' of' * ('least' in limits)} {said}"
    shown = f"{said or 'any number'}{', or none' * none}"
    of_kind: Callable[[Any], Any] = int if whole else float
    name = "int" if whole else "float"
    return Values(name, words.rstrip(), takes, shown, lambda v: v if v is None else of_kind(v))


def whole(least: int, **more: Any) -> Values:
    """Whole numbers of at least ``least``; ``none=True`` takes None too."""
    return _number(whole=True, least=least, **more)


def _or_auto(of: Values) -> Values:
    return Values(
        of.type,
        f"{of.expected} or auto",
        lambda value: value == "auto" or of.takes(value),
        f"{of.range}, or auto",
        lambda value: value if value == "auto" else of.convert(value),
    )


def choice(*choices: str, any_case: bool = False) -> Values:
    """One of several strings."""
    few = " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    named = ", ".join(f"`{name}`" for name in choices)
    return Values("str", few, lambda v: (str(v).lower() if any_case else v) in choices, named)


def _instance(expected: str, *types: type) -> Values:
    names = " or ".join(each.__name__ for each in types)
    return Values(names, expected, lambda value: isinstance(value, types))


def _are_widths(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(whole(1).takes, value))


def _is_clipping(value: Any) -> bool:
    known = {"max_norm", "norm_type", "error_if_nonfinite", "foreach"}
    largest = value.get("max_norm") if isinstance(value, dict) and {*value} <= known else None
    return isinstance(largest, (int, float)) and largest > 0


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and {*value} <= {"RS", "LS", "TS", "SG"}


def _is_interval(value: Any) -> bool:
    """RecBole reads one or several, as in ``"[5,10);[20,inf)"``, and leaves out what is none."""
    for part in map(str.strip, str(value).split(";")):
        low, high = map(float, part[1:-1].split(","))
        if part[0] not in "([" or part[-1] not in ")]" or not low <= high:
            return False
    return True


def _is_columns(value: Any) -> bool:
    lists = value.values() if isinstance(value, dict) else [None]
    return all(columns == "*" or isinstance(columns, (list, tuple, set)) for columns in lists)


def _is_folder(value: Any) -> bool:
    part = isinstance(value, str) and not {*value} & {"/", "\\", "\0"}
    return part and value not in ("", ".", "..") and not os.path.splitdrive(value)[0]


# What is expected of some keys.
_WIDTHS = "a list of whole numbers of at least 1, such as [600]"
_CLIPPING = "such as {'max_norm': 5}, with a number above 0"
_SPLIT = "one of RS, LS, TS, SG with its value, such as {'RS': [0.8, 0.1, 0.1]}"
_COLUMNS = "a mapping{} of lists of columns, such as {{'inter': ['user_id', 'item_id']}}"
_FILES = (
    "a list of three files (training, validation, test), or of five (training, validation fold-in, "
    "validation target, test fold-in, test target)"
)
_FOLDER = "the name of a folder in data_path (which may be any path)"
INTERVAL = Values("str", 'an interval such as "[5,inf)"', _is_interval)


class Role(Flag):
    """What is special about a key."""

    NONE = 0
    # Whose key it is.
    OF_PLUGIN = auto()
    OF_OUR_MODELS = auto()
    OF_WMF = auto()
    OF_EDLAE = auto()
    OF_LINEAR_PATH = auto()
    RECBOLES_WITH_OUR_DEFAULT = auto()
    READ_BY_RECBOLE = auto()  # its code reads or makes it; neither its lists nor its files name it
    CHECKED_ALWAYS = auto()  # for every model; None switches it off
    CHECKED_FOR_OURS = auto()
    WITHOUT_EFFECT = auto()  # on the result: it says where, or what is shown
    OF_A_MACHINE = auto()  # the machines of one run may differ in it
    CHANGEABLE_ON_RESUME = auto()  # of a named run: the same networks, trained otherwise
    SPARSE_GRADIENTS = auto()  # what it switches on makes the gradient of a table sparse
    OF_ONE_RUN = auto()  # no command that trains several models takes it
    SAME_FOR_ALL = auto()  # otherwise models or trials could not be compared with each other
    OF_EACH_MODEL = auto()  # one of RecBole's evaluation and data keys, and a model's own business
    NOT_TUNED = auto()  # a search does not vary it
    NOT_IN_A_FILE = auto()  # Config derives it, or it says how a run is carried out
    NOT_FROM_A_FILE = auto()  # a model file would make RecBole unpickle, or join processes
    SAVED_DATASET = auto()  # RecBole's pickles
    SAVED_SPLIT = auto()
    FILTER = auto()  # which RecBole does not apply to a split made elsewhere
    ARGUMENT_OF_RUN = auto()  # how many processes it runs in, and where
    # What may be taken for a setting and is none.
    PART_OF_EVAL_ARGS = auto()
    NAMES_CONFIG_FILES = auto()
    OPTION_OF_SCRIPTS = auto()
    OF_OLDER_RELEASES = auto()  # ``help`` is what does the same now


@dataclass(frozen=True)
class Key:
    """A config key.

    Attributes:
        values: what it takes; None where it is not checked by itself.
        help: one line of Markdown.
        elsewhere: its value in all processes of a run but the first; None leaves it.
        default: of an argument of ``run``.
    """

    name: str
    values: Values | None = None
    help: str = ""
    roles: Role = Role.NONE
    elsewhere: object = None
    default: Any = None


R = Role
_OURS = R.OF_OUR_MODELS | R.CHECKED_FOR_OURS
_LEARNING = R.RECBOLES_WITH_OUR_DEFAULT | R.CHECKED_FOR_OURS
_PLUGIN = R.OF_PLUGIN | R.CHECKED_ALWAYS
# Where something is, and what is shown.
_HERE = R.WITHOUT_EFFECT | R.OF_A_MACHINE
_PROCESSES = _HERE | R.READ_BY_RECBOLE | R.NOT_IN_A_FILE | R.OF_ONE_RUN
_DERIVED = R.READ_BY_RECBOLE | R.NOT_IN_A_FILE

_NUMBERS = "{0}_inter_num_interval, such as {0}_inter_num_interval='[5,inf)'"
_VALUES = "val_interval, such as val_interval={'rating': '[4,inf)'}"
_EVAL_ARGS = "eval_args, such as eval_args={'split': {'RS': [0.8, 0.1, 0.1]}, 'order': 'TO'}"
_NEGATIVES = "train_neg_sample_args, such as train_neg_sample_args={'sample_num': 1}"
_ALIAS = "alias_of_user_id, alias_of_item_id, alias_of_entity_id or alias_of_relation_id"


def _all(roles: Role, names: str, help: str = "") -> Iterator[Key]:
    return (Key(name, None, help, roles) for name in names.split())


# A row for a key: longer lines than elsewhere, so that it reads as a table.
# fmt: off
_TABLE = (
    # Of our models.
    Key("mlp_hidden_size", Values("list of int", _WIDTHS, _are_widths, "each at least 1, one or more", lambda v: [int(width) for width in v]), "widths of the encoder's hidden layers; the length is the depth. The decoder mirrors it", _OURS),
    Key("latent_dimension", whole(1), "width of z; with two levels, of z1 and z2 each", _OURS),
    Key("gated", _instance("True or False", bool), "hidden layers (x W + b) * sigmoid(x V + c), equation 7, instead of tanh(x W + b)", _OURS),
    Key("dropout_prob", _number(least=0, below=1), "dropout on the L2-normalised history and on the pseudo-inputs, in training only; EDLAE's p, the share of a history that dropout hides", _OURS | R.OF_EDLAE),
    Key("likelihood", choice("multinomial", "bernoulli"), "equation 1, or independent items", _OURS),
    Key("sampled_softmax", whole(0), "in training, the multinomial's sum runs over the batch's items and this many others, drawn at random to stand for the rest; 0: over all items", _OURS | R.SPARSE_GRADIENTS),
    Key("sparse_input_gradient", _instance("True or False", bool), "gradients and optimizer steps of the encoders' first layers cover only the rows of the batch's items", _OURS | R.SPARSE_GRADIENTS),
    Key("n_pseudo_inputs", whole(1), "number K of the VampPrior's components; on ml-100k 200", _OURS),
    Key("pseudo_input_size", whole(0), "maximum number of items of each pseudo-input, drawn from a training user's history; only these entries are learned, starting as `pseudo_inputs_init` says; the others stay 0. 0: all items", _OURS),
    Key("pseudo_inputs_init", choice("normal", "data"), "start of the pseudo-inputs: N(mean, std²), or random training users' histories plus N(0, std²)", _OURS),
    Key("pseudo_inputs_mean", _number(), "mean of the `normal` start", _OURS),
    Key("pseudo_inputs_std", _number(least=0), "standard deviation of the `normal` start, and of the noise of the `data` start", _OURS),
    Key("anneal_cap", _number(least=0), "maximum of the weight of the KL term", _OURS),
    Key("warmup_epochs", whole(0, none=True), "the weight after e epochs is `anneal_cap` min(1, e / `warmup_epochs`)", _OURS),
    Key("total_anneal_steps", whole(0, none=True), "RecBole's rule instead: at step s the weight is min(`anneal_cap`, s / `total_anneal_steps`)", _OURS),
    # RecBole's, for which our models have other defaults.
    Key("learner", choice("adam_norm_grad", "adam", "adamw", "sgd", "adagrad", "rmsprop", any_case=True), "`adam_norm_grad`: Adam on gradients first scaled to unit L2 norm, tensor by tensor, as published", _LEARNING),
    Key("learning_rate", _number(above=0), "", _LEARNING | R.CHANGEABLE_ON_RESUME),
    Key("train_batch_size", _or_auto(whole(1)), "users (not interactions) per step; `auto`: 3 times the square root of the number of training users, between 100 and 500", _LEARNING),
    Key("epochs", whole(0), "at most", _LEARNING | R.NOT_TUNED),
    Key("stopping_step", whole(0), "validations in a row without a better one before training stops, counted from the end of the warm-up", _LEARNING | R.CHANGEABLE_ON_RESUME),
    Key("train_neg_sample_args", None, "the models take no negative samples", R.RECBOLES_WITH_OUR_DEFAULT | R.NOT_IN_A_FILE),
    # Of WMF and EDLAE.
    Key("embedding_size", whole(1), "length of user and item vectors", R.OF_WMF),
    Key("alpha", _number(above=0), "confidence of an interaction: 1 + alpha; of everything else 1", R.OF_WMF),
    Key("reg_weight", _number(least=0, most=LARGEST), "L2 weight, of all vectors or of EDLAE's item weights; the best value grows with the data", R.OF_WMF | R.OF_EDLAE),
    Key("reg_exponent", _number(least=0), "a user with n interactions has the L2 weight `reg_weight` (n + items / `alpha`)^`reg_exponent`, an item likewise; 0: equal weights", R.OF_WMF),
    Key("als_iterations", whole(1), "times that user and item vectors are solved for", R.OF_WMF),
    Key("user_exponent", _number(least=0, most=10), "a user with n interactions has weight n^-`user_exponent` in EDLAE's fit; 0, as published: equal weights", R.OF_EDLAE),
    Key("max_diagonal", _number(least=0, most=1), "upper bound on how much of an item EDLAE reconstructs from the item itself, a part that scores leave out; lowers popular items' scores; 0, as published: none", R.OF_EDLAE),
    # Of GatedHVampLinear.
    Key("linear_reg_weight", _or_auto(_number(least=0, most=LARGEST)), "EDLAE's `reg_weight`; `auto`: chosen on the validation users; above 10,000 items, on only the more popular half of the items, at least 10,000", R.OF_LINEAR_PATH),
    Key("linear_dropout_prob", _or_auto(_number(least=0, below=1)), "EDLAE's `dropout_prob`; `auto`: likewise", R.OF_LINEAR_PATH),
    Key("linear_user_exponent", _or_auto(_number(least=0, most=10)), "EDLAE's `user_exponent`; `auto`: likewise", R.OF_LINEAR_PATH),
    Key("linear_max_diagonal", _or_auto(_number(least=0, most=1)), "EDLAE's `max_diagonal`; `auto`: likewise", R.OF_LINEAR_PATH),
    Key("linear_weight", _or_auto(_number(least=0, most=LARGEST)), "weight of EDLAE's scores in the sum with the network's logits; `auto`: chosen on the validation users", R.OF_LINEAR_PATH),
    Key("linear_n_items", whole(1, none=True), "the linear path has weights for at most this many items, the most popular; the network alone scores the others. The fit's time grows with the cube of their number, its memory with the square. None: all items", R.OF_LINEAR_PATH),
    Key("implicit_slim_interval", whole(0), "every so many steps, while the weight of the KL term rises, ImplicitSLIM refines the item vectors of the first and last layers; 0: never", R.OF_LINEAR_PATH),
    Key("implicit_slim_reg_weight", _number(above=0, most=LARGEST), "lambda of ImplicitSLIM", R.OF_LINEAR_PATH),
    # Of the plugin, for every model.
    Key("split_seed", whole(0, most=LARGEST_SEED), "seed of the split alone, RecBole's splits too; none: `seed`", _PLUGIN | R.SAME_FOR_ALL),
    Key("standard_error", _instance("True or False", bool), "adds `METRIC@K_se` to the results: the standard error over users of every ranking metric", _PLUGIN | R.WITHOUT_EFFECT),
    Key("per_user_file", _instance("the path of a file", str), "CSV file of each user's test metrics, written whole or not at all", _PLUGIN | _HERE | R.OF_ONE_RUN | R.NOT_TUNED),
    Key("resume", _instance("True, False or the path of a model file", bool, str), "resumes the newest unfinished run of the same settings, or that of a model file; our VAEs only", _PLUGIN | R.NOT_IN_A_FILE | R.NOT_TUNED),
    Key("resumable", _instance("True or False", bool), "keeps the state of training beside the model file, to resume from; `run` does unless it is `False`", _PLUGIN | R.NOT_IN_A_FILE | R.NOT_TUNED),
    Key("torch_threads", whole(1), "threads of each process; none: `OMP_NUM_THREADS`, or an equal share of all cores", _PLUGIN | _HERE | R.NOT_IN_A_FILE | R.NOT_TUNED),
    Key("compile", _instance("True or False", bool), "torch compiles the dense layers of our models; no faster on the processors measured", _PLUGIN | R.NOT_TUNED),
    # RecBole's, where they matter here.
    Key("seed", whole(0, most=LARGEST_SEED), "weights, draws of training, and the split unless `split_seed` is set. Same seed and machine, same numbers", R.SAME_FOR_ALL | R.CHECKED_ALWAYS),
    Key("reproducibility", None, "makes cuDNN use deterministic algorithms"),
    Key("data_path", None, "folder of data sets; ml-100k comes with RecBole, your own files of that name take precedence", _HERE | R.NOT_IN_A_FILE | R.SAME_FOR_ALL),
    Key("checkpoint_dir", None, "folder of model files", _HERE | R.NOT_TUNED),
    Key("use_gpu", None, "a GPU if there is one", R.OF_A_MACHINE),
    Key("gpu_id", None, "number of the GPU; `0,1` for two processes", _HERE),
    Key("worker", whole(0), "processes that load batches, in addition to the one that trains", R.OF_A_MACHINE | R.CHECKED_ALWAYS),
    Key("show_progress", None, "bars", _HERE, elsewhere=False),
    Key("state", None, "level of the log; `error` for silence", _HERE, elsewhere="error"),
    Key("log_wandb", None, "Weights & Biases; TensorBoard files are always written", _HERE, elsewhere=False),
    Key("eval_step", whole(0), "epochs between validations; 0: none, and the last epoch's model is kept", R.CHECKED_FOR_OURS),
    Key("clip_grad_norm", Values("dict", _CLIPPING, _is_clipping), 'such as `{"max_norm": 5}`; not with `adam_norm_grad`, which scales all gradients to unit norm', R.CHANGEABLE_ON_RESUME | R.CHECKED_ALWAYS),
    Key("weight_decay", None, "L2 penalty of the optimizer", R.CHANGEABLE_ON_RESUME),
    Key("enable_amp", None, "half precision: bf16, or fp16 with `enable_scaler` and on GPUs without bf16; densities and sums over items stay in single or double precision"),
    Key("enable_scaler", None, "gradient scaling, on GPUs; with `enable_amp` in fp16"),
    Key("eval_args", None, "split and way of ranking; `split: {SG: [...]}` is ours"),
    Key("metrics", None, "`TruncatedRecall` is ours"),
    Key("topk", None, "cut-offs K; above the number of items, all are ranked"),
    Key("valid_metric", None, "chooses the best epoch; must be one of `metrics` at one of `topk`"),
    Key("metric_decimal_place", None, "digits of the metrics"),
    Key("eval_batch_size", whole(1), "scores computed at once; our models, and all models under the split by users, take at least as many users as fit in 64 MB of scores", R.CHECKED_FOR_OURS | R.OF_EACH_MODEL),
    # Without a row of their own in the guide.
    *_all(_HERE | R.NOT_FROM_A_FILE | R.SAVED_DATASET, "save_dataset dataset_save_path"),
    *_all(_HERE | R.NOT_FROM_A_FILE | R.SAVED_SPLIT, "save_dataloaders dataloaders_save_path"),
    *_all(_HERE, "wandb_project"),
    *_all(R.WITHOUT_EFFECT | R.NAMES_CONFIG_FILES, "config_file"),
    Key("nproc", None, "processes on this machine", _PROCESSES | R.ARGUMENT_OF_RUN, default=1),
    Key("world_size", None, "processes on all machines", _PROCESSES | R.ARGUMENT_OF_RUN, default=-1),
    Key("ip", None, "address of the first machine", _PROCESSES | R.ARGUMENT_OF_RUN, default="localhost"),
    Key("port", None, "port of the first machine; by default 5678, or on a single machine any free one", _PROCESSES | R.ARGUMENT_OF_RUN, default=""),
    Key("group_offset", None, "rank of our first process", R.OPTION_OF_SCRIPTS | R.ARGUMENT_OF_RUN, default=0),
    Key("max_restarts", None, "resume so often after a process has died", R.ARGUMENT_OF_RUN, default=0),
    *_all(_PROCESSES, "offset"),
    *_all(_DERIVED | R.NOT_FROM_A_FILE, "local_rank"),
    *_all(_DERIVED, "MODEL_INPUT_TYPE MODEL_TYPE device eval_type single_spec test_neg_sample_args valid_neg_sample_args"),
    *_all(R.NOT_IN_A_FILE, "valid_metric_bigger"),
    Key("dataset", Values("str", _FOLDER, _is_folder), "", R.READ_BY_RECBOLE | R.SAME_FOR_ALL),
    *_all(R.READ_BY_RECBOLE | R.SAME_FOR_ALL, "model"),
    Key("verbose", None, "", R.READ_BY_RECBOLE | R.OF_A_MACHINE, elsewhere=False),
    # Of RecBole, of some of its models, and of its transforms.
    *_all(R.READ_BY_RECBOLE, "encoding tail_ratio token_num_threshold cin contrast eta feature_num has_residual norm sim use_filter xgb_early_stopping_rounds"),
    *_all(R.READ_BY_RECBOLE, "CROP_ITEM_SEQ CROP_ITEM_SEQ_LEN INVERSE_ITEM_SEQ MASK_INDEX MASK_ITEM_SEQ NEG_ITEMS POS_ITEMS REORDER_ITEM_SEQ"),
    *_all(R.OF_EACH_MODEL, "MAX_ITEM_LIST_LENGTH"),
    Key("user_inter_num_interval", INTERVAL, "", R.FILTER | R.CHECKED_ALWAYS),
    Key("item_inter_num_interval", INTERVAL, "", R.FILTER | R.CHECKED_ALWAYS),
    Key("entity_kg_num_interval", INTERVAL, "", R.CHECKED_ALWAYS),
    Key("relation_kg_num_interval", INTERVAL, "", R.CHECKED_ALWAYS),
    Key("val_interval", _instance("a mapping such as {'rating': '[4,inf)'}", dict), "", R.FILTER | R.CHECKED_ALWAYS),
    *_all(R.FILTER, "rm_dup_inter"),
    Key("load_col", Values("dict", _COLUMNS.format(" with inter"), lambda v: _is_columns(v) and "inter" in v), "", R.CHECKED_ALWAYS),
    Key("unload_col", Values("dict", _COLUMNS.format(""), _is_columns), "", R.CHECKED_ALWAYS),
    Key("benchmark_filename", Values("list", _FILES, lambda v: isinstance(v, (list, tuple)) and len(v) in (3, 5)), "", R.CHECKED_ALWAYS),
    # No settings: RecBole takes any key, and these would have no effect.
    Key("split", Values("dict", _SPLIT, _is_split), "", R.PART_OF_EVAL_ARGS),
    Key("order", choice("RO", "TO"), "", R.PART_OF_EVAL_ARGS),
    Key("group_by", choice("user", "none", any_case=True), "", R.PART_OF_EVAL_ARGS),
    *_all(R.PART_OF_EVAL_ARGS, "mode fold_in_ratio"),
    *_all(R.NAMES_CONFIG_FILES, "config config_file_list"),
    *_all(R.NAMES_CONFIG_FILES | R.OPTION_OF_SCRIPTS, "config_files"),
    *_all(R.OPTION_OF_SCRIPTS, "params_file output_file display_file max_evals algo tool"),
    *_all(R.OF_OLDER_RELEASES, "min_user_inter_num max_user_inter_num", _NUMBERS.format("user")),
    *_all(R.OF_OLDER_RELEASES, "min_item_inter_num max_item_inter_num", _NUMBERS.format("item")),
    *_all(R.OF_OLDER_RELEASES, "lowest_val highest_val equal_val not_equal_val", _VALUES),
    *_all(R.OF_OLDER_RELEASES, "drop_filter_field", "unused_col, which drops columns once they have been used"),
    *_all(R.OF_OLDER_RELEASES, "fields_in_same_space", _ALIAS),
    *_all(R.OF_OLDER_RELEASES, "eval_setting split_ratio", _EVAL_ARGS),
    *_all(R.OF_OLDER_RELEASES, "leave_one_num", "eval_args, such as eval_args={'split': {'LS': 'valid_and_test'}}"),
    *_all(R.OF_OLDER_RELEASES, "group_by_user", "eval_args, such as eval_args={'group_by': 'user'}"),
    *_all(R.OF_OLDER_RELEASES, "training_neg_sample_num training_neg_sample_distribution neg_sampling", _NEGATIVES),
    *_all(R.OF_OLDER_RELEASES, "real_time_process"),
)
# fmt: on

KEYS = {key.name: key for key in _TABLE}
assert len(KEYS) == len(_TABLE)


def with_role(role: Role) -> tuple[str, ...]:
    """The names of the keys that have a role, or any of several, in the order of the table."""
    return tuple(key.name for key in _TABLE if key.roles & role)


def checked(name: str, value: object, called: str | None = None) -> Any:
    """:meth:`Values.checked` of a key, which the user may have called otherwise."""
    values = KEYS[name].values
    assert values is not None, f"{name} has no check of its own"
    return values.checked(called or name, value)


def effective_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that have an effect on the result."""
    without = with_role(Role.WITHOUT_EFFECT)
    return {key: value for key, value in settings.items() if key not in without}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The keys that do not have the same value in both, sorted."""
    common = first.keys() & second.keys()
    return sorted({*first, *second} - {key for key in common if first[key] == second[key]})
