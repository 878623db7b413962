"""Repairs that RecBole 1.2 needs on today's packages, apart from its data.

Each draws no random number and leaves the results of RecBole's own models unchanged.
"""

import functools
import importlib
import logging
import random
import re
import secrets
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from recbole_evcf.hooks.wrapping import Forward, exchange, hook
from recbole_evcf.utils.packages import CONSOLE, LOG_FILE, repair_numpy_names
from recbole_evcf.utils.text import plain_value

# Those that torch takes from MKL on Intel processors.
VECTOR_FUNCTIONS = (
    "acos asin atan cos erf erfc erfinv exp expm1 log log10 log1p log2 sin sqrt tan tanh"
)
# What a shell makes of --metrics=['NDCG','MRR'].
WORDS = re.compile(r"\[\s*[A-Za-z]\w*(?:\s*,\s*[A-Za-z]\w*)*\s*\]", re.ASCII)


@functools.cache
def repair() -> None:
    """Repair RecBole for the installed packages; a second call does nothing."""
    # Before any RecBole import: some faults are in its imports.
    repair_numpy_names()
    _import_without_ray()
    _find_vector_functions()

    from recbole.config import configurator
    from recbole.model.context_aware_recommender import kd_dagfm
    from recbole.model.general_recommender import ldiffrec
    from recbole.quick_start import quick_start
    from recbole.trainer import hyper_tuning
    from recbole.trainer.trainer import TraditionalTrainer
    from recbole.utils import logger, utils
    from scipy.sparse import dok_matrix

    from recbole_evcf.hooks import fixes_data  # noqa: F401 - its import repairs

    # `objective_function` reports to Ray outside Ray too, and in a way that Ray 2.7 dropped.
    exchange(quick_start, "tune", types.SimpleNamespace(report=_report_to_ray))
    # LightGCN and six more models call `dok_matrix._update`, which scipy dropped.
    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, data: self._dict.update(data)
    # `get_flops` counts on the second interaction, which a data set of one does not have.
    hook(utils, "get_flops")(
        lambda count, model, data, *a, **kw: count(model, data, *a, **kw) if len(data) > 1 else 0
    )
    # Settings from the command line, from dicts and from parameter files are handed to `eval`,
    # which runs any code in them; here they are only read as plain values.
    exchange(configurator, "eval", _setting)
    # KD_DAGFM passes its setting `teacher` to `eval`; here it names a class of the module.
    exchange(kd_dagfm, "eval", lambda name: _network_of(kd_dagfm, name))
    # LDiffRec unpickles `item_emb.npy` of the data set's folder, whose code would run.
    exchange(ldiffrec, "np", Forward(np, load=_load_numbers))
    # Model files, logs and TensorBoard's folders are named by the second: two runs that start in
    # the same one write to the same files, and test one another's model.
    # The suffix is not from a seeded generator.
    hook(utils, "get_local_time")(lambda original: f"{original()}-{secrets.token_hex(4)}")
    # `init_logger` does nothing where there is a handler: the file of a second run in a process
    # stays empty, and of any run where logging was set up before.
    exchange(logger, "logging", Forward(logging, basicConfig=_log_a_run))
    # The trainer uses `torch.cuda.amp`, of which torch warns that it will be renamed.
    warnings.filterwarnings("ignore", r"`torch\.cuda\.amp\.", FutureWarning, r"recbole\.trainer\.")
    # Exhaustive search gives hyperopt a `RandomState`; since 0.2.6 it needs the newer generator
    # (#1868, #1320, #1240, #1081).
    generators = Forward(np.random, RandomState=np.random.default_rng)
    exchange(hyper_tuning, "np", Forward(np, random=generators))
    # It cannot count choices that are lists or dicts, and hyperopt passes lists as tuples, which
    # no model takes.
    hook(hyper_tuning, "_parameters")(_counting_choices)
    hook(hyper_tuning.HyperTuning, "trial")(lambda trial, self, params: trial(self, _lists(params)))
    exchange(hyper_tuning, "eval", _parameter_value)
    # It trains for one epoch; with `eval_step` above 1 no model was kept, and testing failed.
    hook(TraditionalTrainer, "__init__")(_validate_after_one_epoch)


def _validate_after_one_epoch(original: Callable, self: Any, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.eval_step = min(self.eval_step, self.epochs)


def _import_without_ray() -> None:
    """`recbole.quick_start` imports `ray.tune` only to report a trial's metrics from it.

    Here it is imported without Ray, which takes a second and may be missing: RecBole 1.2.0 does not
    ask for it. Ray 2.6.3 also needs `pkg_resources`, which setuptools 81 dropped.
    """
    if "recbole.quick_start.quick_start" in sys.modules:
        return
    # Of a later import, to tune by Ray.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning, r"ray\.")
    before = {"ray": sys.modules.pop("ray")} if "ray" in sys.modules else {}
    sys.modules["ray"] = ray = types.ModuleType("ray")
    vars(ray)["tune"] = None
    # Importing a dependency draws a number.
    state = random.getstate()
    try:
        importlib.import_module("recbole.quick_start")
    finally:
        random.setstate(state)
        # The user's own `import ray` must find the real one, or fail.
        del sys.modules["ray"]
        sys.modules.update(before)


def _find_vector_functions() -> None:
    """Call each vector function once, in one thread: MKL finds its kernel at the first call, and of
    two threads that first call at once one may get a kernel of low accuracy
    (pytorch/pytorch#188792). The same seed would then give other numbers.
    """
    import torch

    for one in (torch.ones(1, dtype=torch.float32), torch.ones(1, dtype=torch.float64)):
        for name in VECTOR_FUNCTIONS.split():
            getattr(torch, name)(one)


def _report_to_ray(**metrics: float) -> None:
    # A Ray trial has already imported it.
    tune: Any = sys.modules.get("ray.tune")
    if hasattr(tune, "is_session_enabled"):
        if tune.is_session_enabled():
            tune.report(**metrics)
    elif tune is not None:
        with warnings.catch_warnings():
            # Outside a trial it only warns.
            warnings.simplefilter("ignore")
            tune.report(metrics)


def _network_of(module: types.ModuleType, name: str) -> type:
    found = vars(module).get(name)
    if not isinstance(found, type):
        raise ValueError(f"teacher must name a network of KD_DAGFM, not {name!r}.")
    return found


def _load_numbers(path: str, allow_pickle: bool = False) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no array of numbers ({error}).") from None


def _log_a_run(level: int, handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if handler.name in (CONSOLE, LOG_FILE):
            root.removeHandler(handler)
            handler.close()
    console, file = handlers
    console.name, file.name = CONSOLE, LOG_FILE
    open_files = {_descriptor(getattr(handler, "stream", None)) for handler in root.handlers}
    consoles = {_descriptor(sys.stdout), _descriptor(sys.stderr)} - {None}
    # A user's own console handler would print each line twice. TensorBoard's folder is named
    # after the first file.
    root.handlers[:0] = [file] if open_files & consoles else [console, file]
    root.setLevel(level)


def _descriptor(stream: Any) -> int | None:
    """Return the number that identifies a stream in colorama's wrapper."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _counting_choices(original: Callable, space: Any) -> dict:
    find: Any = importlib.import_module("recbole.trainer.hyper_tuning")._recursiveFindNodes
    # A switch holds the parameter, then its choices.
    return {
        node.pos_args[0].pos_args[0].obj: np.arange(len(node.pos_args) - 1)
        for node in find(list(space.values()) if isinstance(space, dict) else space)
    }


def _setting(text: str) -> Any:
    try:
        return plain_value(text)
    except SyntaxError:
        if not WORDS.fullmatch(text):
            raise
        return re.findall(r"\w+", text)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _parameter_value(text: str) -> Any:
    try:
        return plain_value(text)
    except SyntaxError as error:
        raise ValueError(
            f"The parameter file gives the choices [{text}], which are no plain Python values; "
            "write a list such as [1, 2] or ['a', 'b']."
        ) from error
