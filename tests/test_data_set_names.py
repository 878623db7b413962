"""The name of a data set becomes part of paths: none leads out of the folder of data sets."""

import shutil
from pathlib import Path

import pytest
import torch
from recbole.config import Config

from build import trained
from recbole_evcf import cli

NAMES = ["../../etc", "/etc/passwd", "..", ".", "a/b", "a\\b", "tiny/", "a\0b"]
COMMANDS = {
    "run": [],
    "compare": ["--models=Pop"],
    "tune": ["--model=Vamp", "--params_file=hyper/Vamp.hyper", "--output=t"],
    "reproduce": ["table1", "--quick"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_command_refuses_a_path(command, name, refused):
    error = refused(command, *COMMANDS[command], f"--dataset={name}")
    assert "dataset must be the name of a folder in data_path" in error
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("name", [*NAMES, "", 5])
def test_python_is_told_the_same(name):
    for model in ("Vamp", "BPR"):
        with pytest.raises(ValueError, match="dataset must be the name of a folder"):
            Config(model, name)
        with pytest.raises(ValueError, match="dataset must be the name of a folder"):
            Config(model, config_dict={"dataset": name} if name else {"dataset": "..", "a": 1})


@pytest.mark.parametrize("name", ["ünï cödé", "a b", "-x", "[t]*", "a.b", "$(x)", "'", "C:"])
def test_a_strange_name_is_a_name(name, tiny, capsys):
    folder = Path(tiny["data_path"])
    shutil.copytree(folder / "tiny", folder / name)
    (folder / name / "tiny.inter").rename(folder / name / f"{name}.inter")
    settings = [f"--{key}={value}" for key, value in {**tiny, "epochs": 1}.items()]
    assert cli.main(["run", "--model=EASE", f"--dataset={name}", *settings]) == 0
    assert "ndcg@10" in capsys.readouterr().out


def test_a_model_file_that_names_a_path(tiny, refused):
    _, trainer = trained("HVamp", {**tiny, "epochs": 1})
    state = torch.load(trainer.saved_model_file, weights_only=True)
    state["config"]["dataset"] = "../tiny"
    torch.save(state, "m.pth")
    for arguments in (["inspect", "--output=o"], ["recommend", "--output=o.csv"]):
        error = refused(*arguments, "--model_file=m.pth")
        assert "dataset must be the name of a folder" in error
