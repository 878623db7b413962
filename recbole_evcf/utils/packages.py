"""What hooks, Ray's workers and RecBole must agree on; it imports nothing but NumPy."""

from __future__ import annotations

import numpy as np

__all__ = ["CONSOLE", "LOG_FILE", "repair_numpy_names"]

# The names of RecBole's log handlers for a run.
CONSOLE, LOG_FILE = "recbole console", "recbole file"


def repair_numpy_names() -> None:
    """Give NumPy the names that Ray and RecBole read and it dropped, in 1.24 and 2.0 (#2215).

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
