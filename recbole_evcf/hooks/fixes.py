"""Repairs that RecBole 1.2.1 needs on today's packages.

One function per fault. Each does nothing where its fault is absent, may be called again, draws no
random number and leaves the results of RecBole's own models as they are. `repair` calls them all.
"""

from __future__ import annotations

import ast
import functools
import importlib
import logging
import operator
import os
import random
import secrets
import shutil
import sys
import types
import warnings
import zipfile
from typing import ClassVar

import numpy as np

__all__ = [
    "CONSOLE",
    "plain_value",
    "quiet_amp_names",
    "quiet_readonly_columns",
    "repair",
    "repair_chained_fill",
    "repair_collected_numbers",
    "repair_download",
    "repair_embedding_file",
    "repair_eval",
    "repair_exhaustive_search",
    "repair_file_names",
    "repair_flops_of_one",
    "repair_logging",
    "repair_long_tokens",
    "repair_missing_ids",
    "repair_missing_sequences",
    "repair_numpy_names",
    "repair_popularity",
    "repair_ray_import",
    "repair_ray_report",
    "repair_sequence_lengths",
    "repair_sparse_update",
    "repair_structured_choices",
    "repair_teacher_name",
    "wrap_once",
]

_MARK = "_recbole_evcf_repair"
# The names of the handlers that RecBole logs a run by.
CONSOLE, LOG_FILE = "recbole console", "recbole file"
# 256 MB in numpy's arrays of texts.
MAX_TOKEN_CHARACTERS = 2**26
# Far above any data set of ratings; text seldom shrinks to a twentieth.
MAX_UNPACKED_BYTES = 200 * 10**9
MAX_EXPANSION = 200


def repair() -> None:
    """Repair RecBole for the packages that are installed; a second call changes nothing."""
    repair_numpy_names()
    repair_ray_import()
    repair_ray_report()
    repair_sparse_update()
    repair_sequence_lengths()
    repair_missing_sequences()
    repair_chained_fill()
    repair_missing_ids()
    repair_long_tokens()
    repair_flops_of_one()
    repair_collected_numbers()
    repair_popularity()
    repair_download()
    repair_exhaustive_search()
    repair_structured_choices()
    repair_eval()
    repair_teacher_name()
    repair_embedding_file()
    repair_file_names()
    repair_logging()
    quiet_readonly_columns()
    quiet_amp_names()


def repair_numpy_names() -> None:
    """Ray and RecBole read names that numpy dropped, some in 1.24 and some in 2.0 (#2215).

    Ray Tune's workers import Ray before any user code: there this is the setup hook.
    """
    names = {
        "bool": np.bool_,
        "bool8": np.bool_,
        "complex": np.complex128,
        "complex_": np.complex128,
        "float": np.float64,
        "float_": np.float64,
        "int": np.int_,
        "long": np.int_,
        "object": np.object_,
        "str": np.str_,
        "unicode": np.str_,
        "unicode_": np.str_,
    }
    for name, value in names.items():
        # hasattr() would make numpy warn of the names it dropped.
        if name not in vars(np):
            setattr(np, name, value)


def repair_ray_import() -> None:
    """`recbole.quick_start` imports `ray.tune` only to report a trial's metrics from it.

    Here it is imported without Ray, which takes a second and may be missing: RecBole 1.2.0 does not
    ask for it. Ray 2.6.3 also needs `pkg_resources`, which setuptools 81 dropped.
    """
    if "recbole.quick_start.quick_start" in sys.modules:
        return
    # Of a later import, to tune by Ray.
    warnings.filterwarnings(
        "ignore", message="pkg_resources is deprecated", category=UserWarning, module=r"ray\."
    )
    tune = types.ModuleType("ray.tune")
    ray = types.ModuleType("ray")
    ray.tune = tune
    before = {name: sys.modules.pop(name) for name in ("ray", "ray.tune") if name in sys.modules}
    sys.modules.update({"ray": ray, "ray.tune": tune})
    # A package below draws a number when it is imported.
    state = random.getstate()
    try:
        importlib.import_module("recbole.quick_start")
    finally:
        random.setstate(state)
        # The user's own `import ray` must find the real one, or fail.
        del sys.modules["ray"], sys.modules["ray.tune"]
        sys.modules.update(before)


def repair_ray_report() -> None:
    """`objective_function` reports to Ray outside Ray too, and in a way that Ray 2.7 dropped."""
    quick_start = importlib.import_module("recbole.quick_start.quick_start")
    quick_start.tune = _TUNE


def _report_to_ray(**metrics) -> None:
    # A trial of Ray's has imported it.
    tune = sys.modules.get("ray.tune")
    if hasattr(tune, "is_session_enabled"):
        if tune.is_session_enabled():
            tune.report(**metrics)
    elif tune is not None:
        with warnings.catch_warnings():
            # Outside a trial it does nothing but warn.
            warnings.simplefilter("ignore")
            tune.report(metrics)


_TUNE = types.SimpleNamespace(report=_report_to_ray)


class Forward:
    """A module of which some names are replaced."""

    def __init__(self, module, **names) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str):
        return getattr(self._module, name)


def repair_sparse_update() -> None:
    """LightGCN and six more models call `dok_matrix._update`, which scipy dropped."""
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = _update_dok


def _update_dok(self, data: dict) -> None:
    self._dict.update(data)


def repair_sequence_lengths() -> None:
    """RecBole takes `Series.agg(len)` for the length of each sequence: pandas 3 gives one number.

    Sequence fields then fail to load, or all get the number of rows as their length.
    """
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(pd.Series([(1, 2), (3,)]).agg(len), pd.Series):
            return

    def length(value):
        if isinstance(value, pd.Series) and value.dtype == object:
            return value.map(len)
        return len(value)

    for name in ("dataset", "kg_dataset", "sequential_dataset"):
        vars(importlib.import_module(f"recbole.data.dataset.{name}")).setdefault("len", length)


def repair_missing_sequences() -> None:
    """`Dataset._load_feat` fills missing sequences in place on a column: pandas 3 fills a copy.

    The missing value is then split like a text, which fails.
    """
    from recbole.data.dataset import dataset

    if _chained_fill_works() or isinstance(dataset.pd, Forward):
        return
    pandas = dataset.pd

    def read_csv(*args, **kwargs):
        frame = pandas.read_csv(*args, **kwargs)
        for name in frame:
            if name.endswith((":token_seq", ":float_seq")):
                frame[name] = frame[name].fillna("")
        return frame

    dataset.pd = Forward(pandas, read_csv=read_csv)
    _silence_chained_fill()


def repair_chained_fill() -> None:
    """`Dataset._fill_nan` fills in place on a column: pandas 3 fills a copy, the gaps stay."""
    from recbole.data.dataset.dataset import Dataset

    if _chained_fill_works():
        return
    wrap_once(Dataset, "_fill_nan", _fill_columns)
    _silence_chained_fill()


def _fill_columns(original):
    def fill(self):
        from recbole.utils import FeatureType

        for name in self.feat_name_list:
            frame = getattr(self, name)
            for field in frame:
                if self.field2type[field] == FeatureType.TOKEN:
                    frame[field] = frame[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    frame[field] = frame[field].fillna(frame[field].mean())
        original(self)

    return fill


def _chained_fill_works() -> bool:
    import pandas as pd

    frame = pd.DataFrame({"column": [np.nan]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame["column"].fillna(0.0, inplace=True)
    return not frame["column"].isna().any()


def _silence_chained_fill() -> None:
    import pandas as pd

    warnings.filterwarnings(
        "ignore", category=pd.errors.ChainedAssignmentError, module=r"recbole\.data\.dataset\."
    )


def repair_missing_ids() -> None:
    """`Dataset._filter_nan_user_or_item` looks for rows by their place after it has dropped some.

    Where both a user and an item are missing it fails, or drops other rows.
    """
    from recbole.data.dataset.dataset import Dataset

    wrap_once(Dataset, "_filter_nan_user_or_item", _drop_missing_ids)


def _drop_missing_ids(original):
    def drop(self):
        for field, name in ((self.uid_field, "user_feat"), (self.iid_field, "item_feat")):
            for feat_name in ("inter_feat", name):
                feat = getattr(self, feat_name)
                if feat is None or field is None:
                    continue
                missing = feat.index[feat[field].isna()]
                if len(missing):
                    lines = ", ".join(map(str, missing[:5] + 2)) + (", ..." * (len(missing) > 5))
                    self.logger.warning(
                        f"In {feat_name}, {len(missing)} rows have no {field} and are left out "
                        f"(line {lines})."
                    )
                    feat.drop(missing, inplace=True)
        original(self)

    return drop


def repair_long_tokens() -> None:
    """`Dataset._remap` keeps tokens in an array that gives each the room of the longest.

    One id of 100,000 characters among 30,000 would take 12 GB; in such a case the array holds
    Python's texts, which look the same.
    """
    from recbole.data.dataset import dataset

    if isinstance(dataset.np, Forward):
        return
    numpy = dataset.np

    def array(values, *args, **kwargs):
        if not args and not kwargs and isinstance(values, list) and values[:1] == ["[PAD]"]:
            widest = max(len(value) for value in values if isinstance(value, str))
            if widest * len(values) > MAX_TOKEN_CHARACTERS:
                return numpy.array(values, dtype=object)
        return numpy.array(values, *args, **kwargs)

    dataset.np = Forward(numpy, array=array)


def repair_flops_of_one() -> None:
    """`get_flops` counts on the second interaction, which a data set of one does not have."""
    quick_start = importlib.import_module("recbole.quick_start.quick_start")

    def make(original):
        def get_flops(model, dataset, *args, **kwargs):
            return original(model, dataset, *args, **kwargs) if len(dataset) > 1 else 0

        return get_flops

    wrap_once(quick_start, "get_flops", make)


def repair_collected_numbers() -> None:
    """`Collector.get_data_struct` of 1.2.1 calls `.cpu()` on numbers and counts, which metrics such
    as ItemCoverage and AveragePopularity need.
    """
    from recbole.evaluator import Collector

    wrap_once(Collector, "get_data_struct", _with_tensors_alone)


def _with_tensors_alone(original):
    def get_data_struct(self):
        from torch import Tensor

        collected = self.data_struct._data_dict
        rest = {name: value for name, value in collected.items() if not isinstance(value, Tensor)}
        for name in rest:
            del collected[name]
        struct = original(self)
        collected.update(rest)
        struct._data_dict.update(rest)
        return struct

    return get_data_struct


def repair_popularity() -> None:
    """`Pop.calculate_loss` counts by an assignment in which an item of a batch is there once, and
    counts sampled negatives too. Its items are counted when it is made (:mod:`model.fold_in`).
    """
    import torch
    from recbole.model.general_recommender.pop import Pop

    def make(original):
        return lambda self, interaction: torch.zeros((), requires_grad=True)

    wrap_once(Pop, "calculate_loss", make)


def repair_download() -> None:
    """`Dataset._download` waits for other processes even where there are none (#2050).

    A download that fails leaves a half-written folder behind, which the next run takes for data.
    An archive may unpack to any size.
    """
    from recbole.data.dataset import dataset

    wrap_once(dataset.Dataset, "_download", _download_whole)
    wrap_once(dataset, "extract_zip", _extract_within_bounds)


def _extract_within_bounds(original):
    def extract_zip(path, folder):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        packed = os.path.getsize(path)
        if size > MAX_UNPACKED_BYTES or size > max(MAX_EXPANSION * packed, 2**20):
            raise zipfile.BadZipFile(f"the archive would unpack from {packed:,} to {size:,} bytes")
        original(path, folder)

    return extract_zip


def _download_whole(original):
    def download(self):
        from torch import distributed

        path = self.dataset_path
        existed = os.path.exists(path)
        barrier = distributed.barrier
        distributed.barrier = lambda *args, **kwargs: None
        try:
            original(self)
        except BaseException as error:
            if not existed:
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, (OSError, RuntimeError, TypeError, zipfile.BadZipFile)):
                raise ValueError(
                    f"The data set [{self.dataset_name}] could not be downloaded to [{path}] "
                    f"({error}); put its atomic files under that path."
                ) from error
            raise
        finally:
            distributed.barrier = barrier
        if distributed.is_available() and distributed.is_initialized():
            distributed.barrier()

    return download


def repair_exhaustive_search() -> None:
    """Exhaustive search gives hyperopt a `RandomState`; hyperopt 0.2.6 and later call its method
    `integers`, which it lacks (#1868, #1320, #1240, #1081).
    """
    from recbole.trainer import hyper_tuning

    if not isinstance(hyper_tuning.np, Forward):
        drawing = Forward(np.random, RandomState=_RandomState)
        hyper_tuning.np = Forward(np, random=drawing)


def repair_structured_choices() -> None:
    """Exhaustive search cannot count choices that are lists or dicts, and hyperopt hands lists on
    as tuples, which no model takes.
    """
    from recbole.trainer import hyper_tuning

    wrap_once(hyper_tuning, "_parameters", _counting_choices)
    wrap_once(hyper_tuning.HyperTuning, "trial", _with_lists)


def _counting_choices(original):
    def parameters(space):
        from recbole.trainer.hyper_tuning import _recursiveFindNodes

        switches = _recursiveFindNodes(list(space.values()) if isinstance(space, dict) else space)
        # A switch has the parameter first, and then its choices.
        return {
            node.pos_args[0].pos_args[0].obj: np.arange(len(node.pos_args) - 1) for node in switches
        }

    return parameters


def _with_lists(original):
    return lambda self, params: original(self, _lists(params))


def _lists(value):
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


class _RandomState(np.random.RandomState):
    def integers(self, low, high=None, size=None):
        return self.randint(low, high, size)


def repair_eval() -> None:
    """RecBole hands settings from the command line, from dicts and from parameter files to `eval`,
    which runs any code in them; here they are only read as plain values.
    """
    from recbole.config import configurator
    from recbole.trainer import hyper_tuning

    configurator.eval = plain_value
    hyper_tuning.eval = _parameter_value


def repair_teacher_name() -> None:
    """KD_DAGFM hands its setting `teacher` to `eval`; here it names a class of the module."""
    module = importlib.import_module("recbole.model.context_aware_recommender.kd_dagfm")

    def named(text: str):
        found = vars(module).get(text)
        if not isinstance(found, type):
            raise ValueError(f"teacher must name a network of KD_DAGFM, not {text!r}.")
        return found

    vars(module).setdefault("eval", named)


def repair_embedding_file() -> None:
    """LDiffRec unpickles `item_emb.npy` of the data set's folder, whose code would run."""
    ldiffrec = importlib.import_module("recbole.model.general_recommender.ldiffrec")
    if not isinstance(ldiffrec.np, Forward):
        ldiffrec.np = Forward(np, load=_load_numbers)


def _load_numbers(path, allow_pickle=False):
    """An array of numbers; raises a `ValueError` for one of Python objects, whatever is allowed."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no array of numbers ({error}).") from None


def repair_file_names() -> None:
    """RecBole names model files, logs and TensorBoard's folders by the second.

    Two runs that start in the same one write to the same files, and test one another's model.
    """
    for name in ("utils.utils", "utils.logger", "trainer.trainer"):
        wrap_once(importlib.import_module(f"recbole.{name}"), "get_local_time", _unique)


def _unique(original):
    # Not from a generator that a seed sets.
    return lambda: f"{original()}-{secrets.token_hex(4)}"


def repair_logging() -> None:
    """`init_logger` does nothing where there is a handler: the file of a second run in a process
    stays empty, and of any run where logging was set up before.
    """
    logger = importlib.import_module("recbole.utils.logger")
    if not isinstance(logger.logging, Forward):
        logger.logging = Forward(logging, basicConfig=_log_a_run)


def _log_a_run(level, handlers) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if handler.name in (CONSOLE, LOG_FILE):
            root.removeHandler(handler)
            handler.close()
    console, file = handlers
    console.name, file.name = CONSOLE, LOG_FILE
    open_files = {_descriptor(getattr(handler, "stream", None)) for handler in root.handlers}
    consoles = {_descriptor(sys.stdout), _descriptor(sys.stderr)} - {None}
    # Who has a console of their own would read each line twice. TensorBoard's folder is named
    # after the first file.
    root.handlers[:0] = [file] if open_files & consoles else [console, file]
    root.setLevel(level)


def _descriptor(stream) -> int | None:
    """By which a stream is known again in colorama's wrapper."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _parameter_value(text: str):
    try:
        return plain_value(text)
    except SyntaxError as error:
        raise ValueError(
            f"The parameter file gives the choices [{text}], which are no plain Python values; "
            "write a list such as [1, 2] or ['a', 'b']."
        ) from error


def plain_value(text: str):
    """The value of a Python literal, arithmetic on numbers included.

    Raises:
        SyntaxError: the text is anything else; nothing in it was run.
    """
    try:
        tree = ast.parse(text.lstrip(" \t"), mode="eval")
        return ast.literal_eval(_Arithmetic().visit(tree))
    except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise SyntaxError(f"[{text}] is no plain Python value.") from error


class _Arithmetic(ast.NodeTransformer):
    """Puts its result in the place of each operation on two numbers."""

    OPERATIONS: ClassVar = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
        ast.Pow: operator.pow,
    }
    MAX_POWER_BITS = 4096

    def visit_BinOp(self, node: ast.BinOp) -> ast.Constant:
        self.generic_visit(node)
        left, right = ast.literal_eval(node.left), ast.literal_eval(node.right)
        if not all(isinstance(value, (int, float, complex)) for value in (left, right)):
            raise ValueError("Only numbers can be calculated with.")
        if type(node.op) not in self.OPERATIONS:
            raise ValueError("Only + - * / // % and ** are calculated.")
        if (
            isinstance(node.op, ast.Pow)
            and isinstance(left, int)
            and isinstance(right, int)
            and left.bit_length() * right > self.MAX_POWER_BITS
        ):
            raise ValueError("The power is too large.")
        return ast.Constant(self.OPERATIONS[type(node.op)](left, right))


def quiet_readonly_columns() -> None:
    """torch warns of the read-only columns that pandas 3 hands out. RecBole drops the frame once
    its columns are tensors, so that nobody else sees what is written.
    """
    warnings.filterwarnings(
        "ignore",
        message="The given NumPy array is not writable",
        category=UserWarning,
        module=r"recbole\.data\.",
    )


def quiet_amp_names() -> None:
    """RecBole's trainer uses `torch.cuda.amp`, of which torch warns that it will be renamed."""
    warnings.filterwarnings(
        "ignore",
        message=r"`torch\.cuda\.amp\.",
        category=FutureWarning,
        module=r"recbole\.trainer\.",
    )


def wrap_once(owner, name: str, make) -> None:
    """Put make(function) in the place of a class's or module's function, once.

    An inherited function is wrapped for this class alone, as wrapped as it may be already.

    Raises:
        RuntimeError: there is a wrapper of another make.
    """
    maker = getattr(make, "func", make)
    wrapped_by = (maker.__qualname__, *getattr(make, "args", ()))
    there = getattr(vars(owner).get(name), _MARK, None)
    if there is None:
        method = getattr(owner, name)
        wrapper = functools.wraps(method)(make(method))
        setattr(wrapper, _MARK, wrapped_by)
        setattr(owner, name, wrapper)
    elif there != wrapped_by:
        raise RuntimeError(
            f"{owner.__name__}.{name} is wrapped by {there[0]}: no room for {wrapped_by[0]}."
        )
