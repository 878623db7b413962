"""The command line: ``recbole-evcf run ...``, or ``python run_recbole_evcf.py ...``."""

import argparse
import os
import signal
import sys
from importlib import import_module

import recbole_evcf
from recbole_evcf.commands import options as commands
from recbole_evcf.utils.packages import import_plugins
from recbole_evcf.utils.text import one_line


class Terminated(KeyboardInterrupt):
    """SIGTERM, which clusters send before they kill, handled like Ctrl-C."""


def main(arguments: list[str] | None = None) -> int:
    """Run the installed command.

    Args:
        arguments: words after the command's name; those of the process by default.

    Returns:
        exit code: 0; 1 if something that was run failed; 2 for a mistake in what the user gave;
        130 if it was interrupted, 143 by SIGTERM.

    Raises:
        SystemExit: help was asked for, or a word is missing or wrong.
    """
    # Help and early errors are printed before the slow import of RecBole.
    options, words = commands.parse(sys.argv[1:] if arguments is None else arguments)
    # What a command adds to the line that an interruption ends with; None leaves that out.
    options.remark = "."
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        commands.check(options)
        # Before torch is imported: large tensors in 2 MB pages, where Linux has them. A step makes
        # many anew, and the system clears each page at its first touch.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        recbole_evcf.activate()
        recbole_evcf.speed_up_recbole()
        import_plugins()
        # RecBole's Config would read them.
        sys.argv = sys.argv[:1]
        module, function = commands.COMMANDS[options.command].function.split(".")
        command = getattr(import_module(f"recbole_evcf.commands.{module}"), function)
        return command(options, words) or 0
    except KeyboardInterrupt as error:
        if options.remark is not None:
            commands.tell(f"recbole-evcf: interrupted{options.remark}")
        return 143 if isinstance(error, Terminated) else 130
    except Exception as error:
        if os.environ.get("RECBOLE_EVCF_TRACEBACK"):
            raise
        return _fail(error, options, words)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def _fail(error: Exception, options: argparse.Namespace, words: list[str]) -> int:
    """Print in one line what was wrong; return the exit code."""
    text = one_line(error)
    # A process or a machine failed.
    code = 1 if isinstance(error, (ChildProcessError, ConnectionError)) else 2
    # RecBole raises NotImplementedError for unknown settings.
    if not isinstance(error, (ValueError, NotImplementedError, OSError)):
        odd = _odd_settings(options, words)
        name = type(error).__name__
        what = f"{name}: {text}" if str(error) else name
        code, text = 2 if odd else 1, f"{what}{odd}; RECBOLE_EVCF_TRACEBACK=1 shows where."
    commands.tell(f"recbole-evcf: error: {text}")
    return code


def _odd_settings(options: argparse.Namespace, words: list[str]) -> str:
    """What is odd in the settings of a command: RecBole fails on it only when it computes."""
    if commands.COMMANDS[options.command].settings is None:
        return ""
    from recbole_evcf.config.checks import odd_settings
    from recbole_evcf.quick_start import planned_run

    model, files = getattr(options, "model", None), commands.split_files(options.config_files)
    try:
        settings = commands.read_settings(words)
        return odd_settings(planned_run(model, options.dataset, files, settings)[0])
    # It is another error than the one to report.
    except ValueError:
        return ""
