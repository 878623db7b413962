"""What the commands share: how a mistake of the user's ends."""

from __future__ import annotations

import os
import sys

__all__ = ["fail", "one_line"]


def fail(error: Exception) -> int:
    """Say in one line what was wrong; the exit code to end with."""
    if os.environ.get("RECBOLE_EVCF_TRACEBACK"):
        raise error
    print(f"recbole-evcf: error: {one_line(error)}", file=sys.stderr)
    return 2


def one_line(error: Exception) -> str:
    """An exception's text, or its name if it has none."""
    # str() of a KeyError is quoted.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
