"""What the commands that train several models share: seeds, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from recbole_evcf.commands.common import exit_code, fail, read_settings
from recbole_evcf.commands.options import split_files
from recbole_evcf.comparison.outcome import Outcome
from recbole_evcf.config.files import resolve_config_files
from recbole_evcf.config.finished import finished_config, remark_on_settings
from recbole_evcf.utils.text import printable

__all__ = ["print_failures", "read_seeds", "remark_on", "stopped_by", "tell"]


def remark_on(
    model: str | None, dataset: str | None, config_files: str, words: Iterable[str]
) -> str:
    """On settings that may be why something failed, for :func:`fail_somewhere`.

    Args:
        model: its name; None if a config file has it.
        dataset: its name; None if a config file has it.
        config_files: as the user wrote them.
        words: the settings ``--key=value`` beside them.

    Returns:
        a text to put behind an error; empty if there is nothing odd in the settings.
    """
    try:
        files = resolve_config_files(split_files(config_files))
        config = finished_config(model, dataset, files, read_settings(words))
        return remark_on_settings(config)
    # Then there is nothing to remark on: what is wrong there has its own sentence.
    except ValueError:
        return ""


def read_seeds(text: str) -> list[int]:
    """Seeds separated by commas.

    Raises:
        ValueError: one is no whole number of at least 0.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--seeds must be whole numbers separated by commas, not {text!r}.")
    return [int(word) for word in words]


def tell(line: str) -> None:
    """Print a line at once, beside what is the result."""
    print(printable(line), file=sys.stderr, flush=True)


def stopped_by(error: BaseException, folder: str) -> int:
    """Say what a mistake or an interruption has stopped; the exit code to end with."""
    if not isinstance(error, KeyboardInterrupt):
        return fail(error)
    tell(f"Interrupted. Finished runs are kept in {folder}: repeat the command to go on.")
    return exit_code(error)


def print_failures(outcome: Outcome) -> None:
    """A line for each run that failed."""
    for label, seed, reason in outcome.failures:
        print(printable(f"failed: {label}, seed {seed}: {reason}"))
