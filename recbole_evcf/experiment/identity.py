"""What tells two results apart beside the settings."""

from __future__ import annotations

from recbole_evcf.printable import shortened

__all__ = ["check_seed"]

# NumPy's generator takes no larger one.
LARGEST_SEED = 2**32 - 1


def check_seed(seed, name: str) -> None:
    """Check a seed before anything is trained with it.

    Args:
        seed: the value, of any kind.
        name: what the user calls it.

    Raises:
        ValueError: it is no whole number from 0 to 4294967295.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(
            f"{name} must be a whole number from 0 to {LARGEST_SEED}, not {shortened(repr(seed))}."
        )
