"""A user's own modules are imported, so that commands and the processes they start know them."""

from __future__ import annotations

import importlib
import os
import traceback

__all__ = ["PLUGINS", "import_failure", "import_plugins"]

# The environment variable: a started process has it too.
PLUGINS = "RECBOLE_EVCF_PLUGINS"


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
            missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(
                f"{error.name}."
            )
            hint = ": is its folder on PYTHONPATH?" if missing else "."
            raise ValueError(text + hint) from error


def import_failure(error: Exception) -> str:
    """Return what went wrong while a module was imported, in which line of which file."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    # Whoever asks for the module comes first, and the ways of importing are in between.
    ways = (importlib.__file__, "<frozen importlib")
    _, *frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if not frame.filename.startswith(ways)]
    return f"{text}, in {lines[-1].filename}, line {lines[-1].lineno}" if lines else text
