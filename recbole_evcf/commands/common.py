"""What the commands share: settings in words, and how a mistake of the user's ends."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from recbole_evcf.configuration import (
    finished_config,
    one_line,
    remark_on_settings,
    resolve_config_files,
    split_config_files,
)
from recbole_evcf.printable import printable, shortened

__all__ = [
    "add_model_file",
    "exit_code",
    "fail",
    "fail_somewhere",
    "put_words_aside",
    "read_settings",
    "remark_on",
    "terminable",
]

# Exit codes of processes that Ctrl-C and SIGTERM have ended.
INTERRUPTED, TERMINATED = 130, 143


class _OneFile(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 1:
            parser.error(
                f"{option_string} takes one file and was given {len(values)}, which a pattern such "
                f"as *.pth may match: name one of {shortened(', '.join(values), 200)}."
            )
        setattr(namespace, self.dest, values[0])


def add_model_file(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--model_file``, which names one file."""
    parser.add_argument(
        "--model_file",
        required=True,
        nargs="+",
        action=_OneFile,
        help="of a trained model: saved/....pth",
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send before they kill, taken like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises :class:`Terminated`, in the main thread: no other gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def exit_code(interruption: KeyboardInterrupt) -> int:
    """The exit code of a command that was interrupted."""
    return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def fail(error: Exception) -> int:
    """Say in one line what was wrong; the exit code to end with."""
    if os.environ.get("RECBOLE_EVCF_TRACEBACK"):
        raise error
    print(f"recbole-evcf: error: {printable(one_line(error))}", file=sys.stderr)
    return 2


def fail_somewhere(error: Exception, remark: str) -> int:
    """Say in one line that something went wrong which nobody thought of.

    Args:
        error: of any kind.
        remark: on the user's settings; empty if there is nothing odd in them.

    Returns:
        the exit code to end with: 2 if the settings are odd, else 1.
    """
    if os.environ.get("RECBOLE_EVCF_TRACEBACK"):
        raise error
    said = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
    where = "RECBOLE_EVCF_TRACEBACK=1 shows where."
    print(f"recbole-evcf: error: {printable(f'{said}{remark}; {where}')}", file=sys.stderr)
    return 2 if remark else 1


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
        files = resolve_config_files(split_config_files(config_files))
        config = finished_config(model, dataset, files, read_settings(words))
        return remark_on_settings(config)
    # Then there is nothing to remark on: what is wrong there has its own sentence.
    except ValueError:
        return ""


def put_words_aside() -> None:
    """Leave RecBole's ``Config`` nothing to read on the command line, where it would look."""
    sys.argv = sys.argv[:1]


def read_settings(words: Iterable[str]) -> dict[str, str]:
    """The settings of words ``--key=value``, as texts, which RecBole's ``Config`` reads as values.

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
