"""What the commands share: settings from the command line, and how errors end them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recbole_evcf.utils.text import one_line, printable

if TYPE_CHECKING:
    from recbole_evcf.comparison.outcome import Outcome

__all__ = [
    "EXPECTED",
    "exit_code",
    "fail",
    "fail_somewhere",
    "print_failures",
    "put_words_aside",
    "read_seeds",
    "read_settings",
    "remark_on",
    "stopped_by",
    "tell",
    "terminable",
]

# Exit codes of processes ended by Ctrl-C and SIGTERM.
INTERRUPTED, TERMINATED = 130, 143
# Errors with a message for the user. RecBole raises NotImplementedError for unknown settings.
EXPECTED = (ValueError, NotImplementedError, OSError)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send before they kill, handled like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise :class:`Terminated` in the main thread; others get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return the exit code of an interrupted command."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def fail(error: Exception, code: int = 2) -> int:
    """Print in one line what was wrong; return the exit code."""
    if os.environ.get("RECBOLE_EVCF_TRACEBACK"):
        raise error
    print(f"recbole-evcf: error: {printable(one_line(error))}", file=sys.stderr)
    return code


def fail_somewhere(error: Exception, remark: str) -> int:
    """Print in one line that something unexpected went wrong.

    Args:
        error: of any kind.
        remark: on the user's settings; empty if there is nothing odd in them.

    Returns:
        the exit code to end with: 2 if the settings are odd, otherwise 1.
    """
    what = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
    line = RuntimeError(f"{what}{remark}; RECBOLE_EVCF_TRACEBACK=1 shows where.")
    return fail(error if os.environ.get("RECBOLE_EVCF_TRACEBACK") else line, 2 if remark else 1)


def put_words_aside() -> None:
    """Hide the command line from RecBole's ``Config``, which would read it."""
    sys.argv = sys.argv[:1]


def read_settings(words: Iterable[str]) -> dict[str, str]:
    """Return the settings in words ``--key=value``, as strings that RecBole's ``Config`` evaluates.

    Raises:
        ValueError: a word has another form, or a key is given twice.
    """
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not key or not equals:
            raise ValueError(f"cannot read {word!r}: settings are written --key=value.")
        if settings.setdefault(key, value) != value:
            raise ValueError(f"--{key} is given twice, as {settings[key]} and as {value}.")
    return settings


def remark_on(
    model: str | None, dataset: str | None, config_files: str, words: Iterable[str]
) -> str:
    """Describe what is odd in the settings of a command that failed, for :func:`fail_somewhere`.

    Args:
        model: its name; None if a config file has it.
        dataset: its name; None if a config file has it.
        config_files: as the user wrote them.
        words: the settings ``--key=value`` next to them.

    Returns:
        a string to append to an error; empty if there is nothing odd.
    """
    # They take seconds to import, and --help needs this module.
    from recbole_evcf.commands.options import split_files
    from recbole_evcf.config.files import resolve_config_files
    from recbole_evcf.config.finished import finished_config, remark_on_settings

    try:
        files = resolve_config_files(split_files(config_files))
        return remark_on_settings(finished_config(model, dataset, files, read_settings(words)))
    # Errors there are reported separately.
    except ValueError:
        return ""


def read_seeds(text: str) -> list[int]:
    """Seeds separated by commas.

    Raises:
        ValueError: one is not a whole number of at least 0.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--seeds must be whole numbers separated by commas, not {text!r}.")
    return [int(word) for word in words]


def tell(line: str) -> None:
    """Print a line to stderr at once, apart from the result."""
    print(printable(line), file=sys.stderr, flush=True)


def stopped_by(error: Exception | KeyboardInterrupt, folder: str) -> int:
    """Report an error or an interruption; return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        tell(f"Interrupted. Finished runs are kept in {folder}: repeat the command to resume.")
        return exit_code(error)
    return fail(error)


def print_failures(outcome: Outcome) -> None:
    """Print a line for each run that failed."""
    for label, seed, reason in outcome.failures:
        print(printable(f"failed: {label}, seed {seed}: {reason}"))
