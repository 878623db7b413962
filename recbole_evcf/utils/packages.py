"""What must be so before RecBole is imported: NumPy's old names, and a user's own modules."""

import contextlib
import importlib
import os
import signal
import traceback
from collections.abc import Iterator
from typing import Any

# The names of RecBole's log handlers for a run.
CONSOLE, LOG_FILE = "recbole console", "recbole file"
# An environment variable, since child processes inherit it.
PLUGINS = "RECBOLE_EVCF_PLUGINS"


def repair_numpy_names() -> None:
    """Give NumPy the names that Ray and RecBole read and it dropped, in 1.24 and 2.0 (#2215).

    Ray Tune's workers import Ray before any user code: there this is the setup hook.
    """
    import numpy as np

    names: dict[str, type] = {
        **{"bool": np.bool_, "bool8": np.bool_, "object": np.object_},
        **dict.fromkeys(("complex", "complex_"), np.complex128),
        **dict.fromkeys(("float", "float_"), np.float64),
        **dict.fromkeys(("int", "long"), np.int_),
        **dict.fromkeys(("str", "unicode", "unicode_"), np.str_),
    }
    for name, value in names.items():
        # hasattr() would make NumPy warn of the names it dropped.
        if name not in vars(np):
            setattr(np, name, value)


def import_plugins() -> None:
    """Import the modules that ``RECBOLE_EVCF_PLUGINS`` names, separated by commas, once each.

    They register what they bring, as :func:`recbole_evcf.hooks.models.register_model` does.

    Raises:
        ValueError: one cannot be imported.
    """
    for name in filter(None, map(str.strip, os.environ.get(PLUGINS, "").split(","))):
        try:
            importlib.import_module(name)
        except Exception as error:
            text = f"{PLUGINS} names {name!r}, which cannot be imported ({import_failure(error)})"
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            found = missing is None or not f"{name}.".startswith(f"{missing}.")
            hint = "." if found else ": is its folder on PYTHONPATH?"
            raise ValueError(text + hint) from error


def with_ray(module: str, cpus: float, gpus: float) -> tuple[Any, dict[str, float]]:
    """Import a module of ours that needs Ray; return it, and what each of its tasks gets."""
    imported = extra(f"recbole_evcf.{module}", "--tool=ray", "Ray", "tune")
    return imported, {"CPU": cpus, "GPU": gpus}


def extra(module: str, what: str, packages: str, name: str) -> Any:
    """Import a module that needs packages of an extra.

    Raises:
        ValueError: they are missing.
    """
    try:
        with sigterm_kept():
            return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f'{what} needs {packages} ({error}): pip install ".[{name}]"') from None


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep what SIGTERM does, which Ray changes when it is imported and again when it starts."""
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Only the main thread may do it, and only there Ray does.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, terminate)


def import_failure(error: Exception) -> str:
    """Return why importing a module failed, with file and line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    # The first frame is the importer's; import machinery is in between.
    ways = (importlib.__file__, "<frozen importlib")
    _, *frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if not frame.filename.startswith(ways)]
    return f"{text}, in {lines[-1].filename}, line {lines[-1].lineno}" if lines else text
