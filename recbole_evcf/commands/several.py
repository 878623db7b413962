"""What the commands that train several models share: options, seeds, and how they end."""

from __future__ import annotations

import argparse
import sys

from recbole_evcf.commands.common import exit_code, fail
from recbole_evcf.experiment.outcome import Outcome
from recbole_evcf.printable import printable

__all__ = ["add_shared_options", "print_failures", "read_seeds", "stopped_by", "tell"]


def add_shared_options(parser: argparse.ArgumentParser, output: str) -> None:
    """The options of every command that trains several models."""
    parser.add_argument(
        "--config_files",
        default="",
        help='YAML files, "a.yaml b.yaml", or names of shipped ones such as '
        '"protocol/strong_generalization"',
    )
    parser.add_argument("--seeds", default="", help="of the models, 2020,2021; the split has one")
    parser.add_argument(
        "--output", default=output, help=f"folder of all results (default {output})"
    )


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
