"""Repairs that RecBole 1.2 needs on today's packages, apart from its data and its search.

Each does nothing where its fault is absent, draws no random number and leaves the results of
RecBole's own models unchanged.
"""

from __future__ import annotations

import importlib
import logging
import random
import secrets
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from recbole_evcf.hooks.wrapping import Forward, exchange, wrap
from recbole_evcf.utils.packages import CONSOLE, LOG_FILE, repair_numpy_names
from recbole_evcf.utils.text import plain_value

__all__ = ["repair"]


def repair() -> None:
    """Repair RecBole for the installed packages; a second call changes nothing."""
    # Before any RecBole import: some faults are in its imports.
    repair_numpy_names()
    _import_without_ray()

    from recbole.config import configurator
    from recbole.model.context_aware_recommender import kd_dagfm
    from recbole.model.general_recommender import ldiffrec
    from recbole.quick_start import quick_start
    from recbole.utils import logger, utils
    from scipy.sparse import dok_matrix

    from recbole_evcf.hooks.fixes_data import repair_data
    from recbole_evcf.hooks.fixes_search import repair_search

    repair_data()
    repair_search()
    # `objective_function` reports to Ray outside Ray too, and in a way that Ray 2.7 dropped.
    exchange(quick_start, "tune", types.SimpleNamespace(report=_report_to_ray))
    # LightGCN and six more models call `dok_matrix._update`, which scipy dropped.
    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, data: self._dict.update(data)
    # `get_flops` counts on the second interaction, which a data set of one does not have.
    wrap(utils, "get_flops", _flops_of_several)
    # Settings from the command line, from dicts and from parameter files are handed to `eval`,
    # which runs any code in them; here they are only read as plain values.
    exchange(configurator, "eval", plain_value)
    # KD_DAGFM passes its setting `teacher` to `eval`; here it names a class of the module.
    exchange(kd_dagfm, "eval", lambda name: _network_of(kd_dagfm, name))
    # LDiffRec unpickles `item_emb.npy` of the data set's folder, whose code would run.
    exchange(ldiffrec, "np", Forward(np, load=_load_numbers))
    # Model files, logs and TensorBoard's folders are named by the second: two runs that start in
    # the same one write to the same files, and test one another's model.
    # The suffix is not from a seeded generator.
    wrap(utils, "get_local_time", lambda original: f"{original()}-{secrets.token_hex(4)}")
    # `init_logger` does nothing where there is a handler: the file of a second run in a process
    # stays empty, and of any run where logging was set up before.
    exchange(logger, "logging", Forward(logging, basicConfig=_log_a_run))
    # The trainer uses `torch.cuda.amp`, of which torch warns that it will be renamed.
    _ignore(FutureWarning, r"`torch\.cuda\.amp\.", r"recbole\.trainer\.")


def _ignore(category: type[Warning], message: str, module: str) -> None:
    warnings.filterwarnings("ignore", message, category, module)


def _import_without_ray() -> None:
    """`recbole.quick_start` imports `ray.tune` only to report a trial's metrics from it.

    Here it is imported without Ray, which takes a second and may be missing: RecBole 1.2.0 does not
    ask for it. Ray 2.6.3 also needs `pkg_resources`, which setuptools 81 dropped.
    """
    if "recbole.quick_start.quick_start" in sys.modules:
        return
    # Of a later import, to tune by Ray.
    _ignore(UserWarning, "pkg_resources is deprecated", r"ray\.")
    ray = types.ModuleType("ray")
    tune = vars(ray)["tune"] = types.ModuleType("ray.tune")
    names = ("ray", "ray.tune")
    before = {str(name): sys.modules.pop(name) for name in names if name in sys.modules}
    sys.modules.update({"ray": ray, "ray.tune": tune})
    # Importing a dependency draws a number.
    state = random.getstate()
    try:
        importlib.import_module("recbole.quick_start")
    finally:
        random.setstate(state)
        # The user's own `import ray` must find the real one, or fail.
        del sys.modules["ray"], sys.modules["ray.tune"]
        sys.modules.update(before)


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


def _flops_of_several(original: Callable, model: Any, dataset: Any, *args: Any, **kw: Any) -> float:
    return original(model, dataset, *args, **kw) if len(dataset) > 1 else 0


def _network_of(module: types.ModuleType, name: str) -> type:
    found = vars(module).get(name)
    if not isinstance(found, type):
        raise ValueError(f"teacher must name a network of KD_DAGFM, not {name!r}.")
    return found


def _load_numbers(path: str, allow_pickle: bool = False) -> np.ndarray:
    """Return an array of numbers; raise a `ValueError` for Python objects, even if allowed."""
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
