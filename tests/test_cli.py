"""The command that holds the others."""

import dataclasses
import json
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from conftest import config_files
from recbole_evcf import __version__, cli
from recbole_evcf.commands.options import COMMANDS
from recbole_evcf.comparison.paper import TABLES
from recbole_evcf.data.prepare import KINDS
from recbole_evcf.model.vae import Settings

# What a command cannot be without.
NEEDED = {
    "app": ["--model_file=m.pth"],
    "compare": ["--models=Pop"],
    "export": ["--model_file=m.pth", "--output=o"],
    "inspect": ["--model_file=m.pth", "--output=o"],
    "prepare": ["ml-20m", "--raw=r"],
    "recommend": ["--model_file=m.pth", "--output=o"],
    "reproduce": ["table1"],
    "run": [],
    "tune": ["--params_file=hyper/Vamp.hyper", "--output=o"],
}


@pytest.fixture
def called(monkeypatch):
    """Calls a command whose function is replaced; the exit code."""
    Path("m.pth").touch()

    def call(name, function):
        module, own = COMMANDS[name].function.split(".")
        monkeypatch.setattr(import_module(f"recbole_evcf.commands.{module}"), own, function)
        return cli.main([name, *NEEDED[name]])

    return call


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_signals_end_every_command_with_one_line(name, number, code, called, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert called(name, lambda options, words: signal.raise_signal(number)) == code
    assert capsys.readouterr().err == "recbole-evcf: interrupted.\n"
    assert signal.getsignal(signal.SIGTERM) == before


WHERE = "RECBOLE_EVCF_TRACEBACK=1 shows where."


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyError("x"), 1, f"KeyError: x; {WHERE}"),
        (ImportError("no\nwheel"), 1, f"ImportError: no wheel; {WHERE}"),
        (MemoryError(), 1, f"MemoryError; {WHERE}"),
        (ChildProcessError("process 1 died."), 1, "process 1 died."),
        (ValueError("the key is wrong."), 2, "the key is wrong."),
        (NotImplementedError("no such split."), 2, "no such split."),
    ],
)
def test_whatever_a_command_raises_is_one_line(
    name, error, code, line, called, capsys, monkeypatch
):
    def fail(options, words):
        raise error

    assert called(name, fail) == code
    assert capsys.readouterr().err == f"recbole-evcf: error: {line}\n"
    monkeypatch.setenv("RECBOLE_EVCF_TRACEBACK", "1")
    with pytest.raises(type(error)):
        called(name, fail)


# Answered before RecBole or PyTorch is imported.
AT_ONCE = [
    ([], 2, "COMMAND"),
    (["--help"], 0, "recbole-evcf COMMAND --help"),
    (["--version"], 0, f"recbole-evcf {__version__}"),
    *((([name, "--help"]), 0, f"usage: recbole-evcf {name} ") for name in COMMANDS),
    (["trian"], 2, "invalid choice: 'trian'"),
    (["prepare", "ml-20m", "--raw=r", "--seed=1"], 2, "unrecognized arguments: --seed=1"),
    (["compare"], 2, "the following arguments are required: --models"),
    (["run", "--config_files=none.yaml"], 2, "There is no config file none.yaml"),
    (["tune", "--params_file=none.hyper", "--output=o"], 2, "There is no params file none.hyper"),
    (["export", "--model_file=none.pth", "--output=o"], 2, "There is no model file none.pth."),
]
WITHOUT_HEAVY = """
import sys
sys.orig_argv = ["python", "/somewhere/bin/recbole-evcf"]
from recbole_evcf.cli import main
for arguments in {}:
    try:
        print("code", main(arguments))
    except SystemExit as stopped:
        print("code", stopped.code)
heavy = {{"torch", "recbole", "pandas", "numpy", "scipy", "ray"}}
print("imported", sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
"""


def test_help_and_mistakes_import_neither_recbole_nor_torch():
    code = WITHOUT_HEAVY.format([arguments for arguments, _, _ in AT_ONCE])
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.stdout.splitlines()[-1] == "imported []"
    codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == [code for _, code, _ in AT_ONCE]
    for _, _, words in AT_ONCE:
        assert words in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["compare", "--models=Pop", "--ray_address=auto"], "--ray_address is for --tool=ray."),
        (["reproduce", "table1", "--gpus_per_trial=1"], "--gpus_per_trial is for --tool=ray."),
        (["tune", *NEEDED["tune"], "--grace_period=2"], "--grace_period is for --tool=ray."),
        (["prepare", "table", "--raw=r", "--title=t"], "--title is the name of a column of"),
    ],
)
def test_an_option_without_effect_is_refused(words, line, refused):
    assert line in refused(*words)


def test_help_of_run_lists_the_settings_of_our_models(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    output = capsys.readouterr().out
    for field in dataclasses.fields(Settings):
        assert output.count(f"\n  --{field.name}=") == 1
    assert "--anneal_cap=0.3" in output
    assert "https://recbole.io/docs" in output


def test_kinds_and_tables_are_those_that_there_are():
    for name, expected in (("prepare", KINDS), ("reproduce", TABLES)):
        assert COMMANDS[name].options[0][1]["choices"] == list(expected)


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--models=Pop,Vamp", "--worker=1", "--output=compared"],
        ["run", "--model=Vamp", "--nproc=2", "--result_file=result.json"],
    ],
)
def test_processes_that_the_installed_command_starts_know_the_plugin(words, tiny):
    """They import the command's script again, and find its words in sys.argv."""
    Path("recbole-evcf").write_text(
        "import sys\nfrom recbole_evcf.cli import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    words = [*words, "--dataset=tiny", config_files({**tiny, "epochs": 1})]
    done = subprocess.run([sys.executable, "recbole-evcf", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ndcg@10" in done.stdout.lower()
    if words[0] == "run":
        assert Path(json.loads(Path("result.json").read_text())["model_file"]).exists()
