"""Modules of a user's own, whose models the commands and the processes they start know too."""

from __future__ import annotations

import os
from importlib import import_module

__all__ = ["PLUGINS", "import_plugins"]

# The environment variable: a started process has it too.
PLUGINS = "RECBOLE_EVCF_PLUGINS"


def import_plugins() -> None:
    """Import the modules that ``RECBOLE_EVCF_PLUGINS`` names, separated by commas, once each.

    They register what they bring, as :func:`recbole_evcf.register.register_model` does.

    Raises:
        ValueError: one cannot be imported.
    """
    for name in filter(None, map(str.strip, os.environ.get(PLUGINS, "").split(","))):
        try:
            import_module(name)
        except Exception as error:
            raise ValueError(
                f"{PLUGINS} names {name!r}, which cannot be imported ({type(error).__name__}: "
                f"{error}): is its folder on PYTHONPATH?"
            ) from error
