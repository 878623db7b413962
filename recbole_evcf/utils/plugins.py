"""Import a user's own modules, in commands and in the processes they start."""

from __future__ import annotations

import importlib
import os
import traceback

__all__ = ["PLUGINS", "import_failure", "import_plugins"]

# An environment variable, since child processes inherit it.
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
    """Return why importing a module failed, with file and line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    # The first frame is the importer's; import machinery is in between.
    ways = (importlib.__file__, "<frozen importlib")
    _, *frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if not frame.filename.startswith(ways)]
    return f"{text}, in {lines[-1].filename}, line {lines[-1].lineno}" if lines else text
