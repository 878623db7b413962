"""Format numbers and settings for the terminal, tables and figures alike."""

from __future__ import annotations

import math
from numbers import Integral, Real

import pandas as pd

__all__ = ["MISSING", "duration", "number", "setting", "value_and_error"]

MISSING = "–"
# Smaller p-values are all shown alike.
LEAST_P = 0.0001


def number(value: object, spec: str = ".4f") -> str:
    """A value as a table shows it.

    Args:
        value: a missing one (None or NaN) is a dash, and what is no number is shown as it is.
        spec: format of a real number, or ``p`` for a p-value. Integers have commas between the
            thousands, unless the format is ``d``.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return MISSING if value is None or value is pd.NA else str(value)
    if math.isnan(value):
        return MISSING
    if spec == "p":
        # A non-breaking space.
        return f"<\u00a0{LEAST_P}" if value < LEAST_P else f"{value:.4f}"
    return format(value, "," if isinstance(value, Integral) and spec != "d" else spec)


def value_and_error(value: object, error: float | None, spec: str = ".4f") -> str:
    """A mean and its standard error, if there is one: ``0.4123 ± 0.0045``.

    Args:
        value: as of :func:`number`.
        error: None or NaN if it is unknown, as of a single user.
        spec: format of both; a sign is the value's alone.
    """
    text = number(value, spec)
    if text == MISSING or error is None or math.isnan(error):
        return text
    return f"{text} ± {number(error, spec.lstrip('+'))}"


def duration(seconds: float) -> str:
    """Format a time in seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def setting(value: object) -> str:
    """Format a parameter's value: four digits of a real number, all of an integer."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
