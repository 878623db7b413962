"""The command line: ``recbole-evcf run ...``, or ``python run_recbole_evcf.py ...``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

import recbole_evcf
from recbole_evcf import __version__
from recbole_evcf.commands import options
from recbole_evcf.commands.common import EXPECTED, exit_code, fail, fail_somewhere, terminable
from recbole_evcf.utils.plugins import PLUGINS, import_plugins

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the installed command.

    Args:
        arguments: words after the command's name; those of the process by default.

    Returns:
        exit code: 0; 1 if something that was run failed; 2 for a mistake in what the user gave;
        130 if it was interrupted, 143 by SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="recbole-evcf",
        description="VampPrior, hierarchical and gated VAEs for RecBole.",
        epilog="recbole-evcf COMMAND --help describes a command. The environment variable "
        f"{PLUGINS} names modules with models of your own.",
    )
    parser.add_argument("--version", action="version", version=f"recbole-evcf {__version__}")
    parser.add_argument("command", choices=options.COMMANDS, help="what to do")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command")
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    parsed = parser.parse_args(arguments)
    try:
        with terminable():
            return _run(parsed.command, parsed.arguments)
    except KeyboardInterrupt as error:
        print("recbole-evcf: interrupted.", file=sys.stderr)
        return exit_code(error)


def _run(command: str, arguments: list[str]) -> int:
    """Return a command's exit code; print what it raises in one line."""
    try:
        # Help and early errors are printed before the slow import of RecBole.
        options.check_files(options.parse(command, arguments)[0])
        recbole_evcf.activate()
        recbole_evcf.speed_up_recbole()
        import_plugins()
        # Each command's module has a function main(arguments) -> exit code.
        return import_module(f"recbole_evcf.commands.{command}").main(arguments)
    # A process or a machine failed.
    except (ChildProcessError, ConnectionError) as error:
        return fail(error, 1)
    except EXPECTED as error:
        return fail(error)
    except Exception as error:
        return fail_somewhere(error, "")
