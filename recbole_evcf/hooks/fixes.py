"""Repairs that RecBole 1.2.1 needs on today's packages, apart from its data and its search.

One function per fault. Each does nothing where its fault is absent, may be called again, draws no
random number and leaves the results of RecBole's own models unchanged. `repair` calls them all.
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

from recbole_evcf.hooks.wrapping import EXCHANGED, Forward, exchange, wrap_once
from recbole_evcf.utils.packages import CONSOLE, LOG_FILE, repair_numpy_names
from recbole_evcf.utils.text import plain_value

__all__ = ["repair"]


def repair() -> None:
    """Repair RecBole for the installed packages; a second call changes nothing."""
    # Before any RecBole import: some faults are in its imports.
    repair_numpy_names()
    repair_ray_import()

    from recbole_evcf.hooks.fixes_data import repair_data
    from recbole_evcf.hooks.fixes_search import repair_search

    repair_ray_report()
    repair_sparse_update()
    repair_data()
    repair_flops_of_one()
    repair_search()
    repair_eval()
    repair_teacher_name()
    repair_embedding_file()
    repair_file_names()
    repair_logging()
    quiet_amp_names()


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
    ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
    vars(ray)["tune"] = tune
    names = ("ray", "ray.tune")
    before = {str(name): sys.modules.pop(name) for name in names if name in sys.modules}
    sys.modules["ray"], sys.modules["ray.tune"] = ray, tune
    # Importing a dependency draws a number.
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
    exchange(importlib.import_module("recbole.quick_start.quick_start"), "tune", _TUNE)


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


_TUNE = types.SimpleNamespace(report=_report_to_ray)


def repair_sparse_update() -> None:
    """LightGCN and six more models call `dok_matrix._update`, which scipy dropped."""
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, data: self._dict.update(data)


def repair_flops_of_one() -> None:
    """`get_flops` counts on the second interaction, which a data set of one does not have."""

    def make(original: Callable) -> Callable:
        def get_flops(model: Any, dataset: Any, *args: Any, **kwargs: Any) -> float:
            return original(model, dataset, *args, **kwargs) if len(dataset) > 1 else 0

        return get_flops

    wrap_once(importlib.import_module("recbole.utils.utils"), "get_flops", make)


def repair_eval() -> None:
    """RecBole hands settings from the command line, from dicts and from parameter files to `eval`,
    which runs any code in them; here they are only read as plain values.
    """
    exchange(importlib.import_module("recbole.config.configurator"), "eval", plain_value)


def repair_teacher_name() -> None:
    """KD_DAGFM passes its setting `teacher` to `eval`; here it names a class of the module."""
    module = importlib.import_module("recbole.model.context_aware_recommender.kd_dagfm")

    def named(text: str) -> type:
        found = vars(module).get(text)
        if not isinstance(found, type):
            raise ValueError(f"teacher must name a network of KD_DAGFM, not {text!r}.")
        return found

    if "eval" not in vars(module):
        exchange(module, "eval", named)


def repair_embedding_file() -> None:
    """LDiffRec unpickles `item_emb.npy` of the data set's folder, whose code would run."""
    ldiffrec = importlib.import_module("recbole.model.general_recommender.ldiffrec")
    if f"{ldiffrec.__name__}.np" not in EXCHANGED:
        exchange(ldiffrec, "np", Forward(np, load=_load_numbers))


def _load_numbers(path: str, allow_pickle: bool = False) -> np.ndarray:
    """Return an array of numbers; raise a `ValueError` for Python objects, even if allowed."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} holds no array of numbers ({error}).") from None


def repair_file_names() -> None:
    """RecBole names model files, logs and TensorBoard's folders by the second.

    Two runs that start in the same one write to the same files, and test one another's model.
    """
    wrap_once(importlib.import_module("recbole.utils.utils"), "get_local_time", _unique)


def _unique(original: Callable[[], str]) -> Callable[[], str]:
    # Not from a seeded generator.
    return lambda: f"{original()}-{secrets.token_hex(4)}"


def repair_logging() -> None:
    """`init_logger` does nothing where there is a handler: the file of a second run in a process
    stays empty, and of any run where logging was set up before.
    """
    logger = importlib.import_module("recbole.utils.logger")
    if f"{logger.__name__}.logging" not in EXCHANGED:
        exchange(logger, "logging", Forward(logging, basicConfig=_log_a_run))


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


def quiet_amp_names() -> None:
    """RecBole's trainer uses `torch.cuda.amp`, of which torch warns that it will be renamed."""
    warnings.filterwarnings(
        "ignore",
        message=r"`torch\.cuda\.amp\.",
        category=FutureWarning,
        module=r"recbole\.trainer\.",
    )
