"""The command that holds the others."""

from importlib import import_module

import pytest

from recbole_evcf import cli
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
