"""What the commands share: settings from the command line, and how a mistake ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from recbole_evcf.utils.text import one_line, printable

__all__ = [
    "EXPECTED",
    "exit_code",
    "fail",
    "fail_somewhere",
    "put_words_aside",
    "read_settings",
    "terminable",
]

# Exit codes of processes that Ctrl-C and SIGTERM have ended.
INTERRUPTED, TERMINATED = 130, 143
# What has a sentence for the user. NotImplementedError: RecBole's, of a setting it does not know.
EXPECTED = (ValueError, NotImplementedError, OSError)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send before they kill, taken like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises :class:`Terminated`, in the main thread: no other gets signals."""
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
    """The exit code of a command that was interrupted."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def fail(error: Exception, code: int = 2) -> int:
    """Print in one line what was wrong; the exit code to end with."""
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
    """Leave RecBole's ``Config`` nothing to read on the command line, where it would look."""
    sys.argv = sys.argv[:1]


def read_settings(words: Iterable[str]) -> dict[str, str]:
    """The settings of words ``--key=value``, as strings that RecBole's ``Config`` evaluates.

    Raises:
        ValueError: a word is written otherwise, or a key is given twice.
    """
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not key or not equals:
            raise ValueError(f"cannot read {word!r}: settings are written --key=value.")
        if settings.setdefault(key, value) != value:
            raise ValueError(f"--{key} is given twice, as {settings[key]} and as {value}.")
    return settings
