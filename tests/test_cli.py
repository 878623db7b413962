"""The command that holds the others."""

import signal
import sys
from importlib import import_module

import pytest

from recbole_evcf import cli
from recbole_evcf.commands.common import Terminated
from recbole_evcf.commands.several import stopped_by
from recbole_evcf.version import __version__


def test_every_command_has_a_main():
    for name in cli.COMMANDS:
        assert callable(import_module(f"recbole_evcf.commands.{name}").main)


def test_help_and_version(capsys):
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 0
    output = capsys.readouterr().out
    assert "--config_files" in output
    assert __version__ in output


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["trian"])
    assert stopped.value.code == 2


def test_without_words_it_says_what_it_takes(capsys):
    assert cli.main([]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.parametrize("name", cli.COMMANDS)
def test_signals_end_every_command_with_one_line(name, number, code, monkeypatch, capsys):
    module = import_module(f"recbole_evcf.commands.{name}")
    monkeypatch.setattr(module, "main", lambda arguments: signal.raise_signal(number))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main([name]) == code
    assert capsys.readouterr().err == "recbole-evcf: interrupted.\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyError("x"), 1, "KeyError: x; RECBOLE_EVCF_TRACEBACK=1 shows where."),
        (
            ImportError("no\nwheel"),
            1,
            "ImportError: no wheel; RECBOLE_EVCF_TRACEBACK=1 shows where.",
        ),
        (MemoryError(), 1, "MemoryError; RECBOLE_EVCF_TRACEBACK=1 shows where."),
        (ValueError("the key is wrong."), 2, "the key is wrong."),
        (NotImplementedError("no such split."), 2, "no such split."),
    ],
)
def test_whatever_a_command_raises_is_one_line(name, error, code, line, monkeypatch, capsys):
    def main(arguments):
        raise error

    monkeypatch.setattr(import_module(f"recbole_evcf.commands.{name}"), "main", main)
    assert cli.main([name]) == code
    assert capsys.readouterr().err == f"recbole-evcf: error: {line}\n"
    monkeypatch.setenv("RECBOLE_EVCF_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main([name])


def test_a_command_that_cannot_be_imported_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "recbole_evcf.commands.export", None)
    assert cli.main(["export"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("recbole-evcf: error: ModuleNotFoundError: import of ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("kind", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_what_is_done_is_kept(kind, code, capsys):
    assert stopped_by(kind(), "folder") == code
    assert "kept in folder: repeat the command to go on" in capsys.readouterr().err
