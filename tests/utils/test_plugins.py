"""Models of a user's own, in the commands and in the processes they start."""

import sys
from pathlib import Path

import pytest
import yaml
from recbole.config import Config

from recbole_evcf import cli
from recbole_evcf.utils.plugins import PLUGINS

MINE = """
from recbole_evcf.model.models import Vamp
from recbole_evcf import register_model

class {name}(Vamp):
    pass

register_model({name}, defaults={{"n_pseudo_inputs": 5, "anneal_cap": 0.7, "mine": "x"}})
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Function that writes a module with a model of the given name and names it as a plugin."""

    def write(name: str) -> None:
        folder = tmp_path / "modules"
        folder.mkdir()
        (folder / f"{name.lower()}_module.py").write_text(MINE.format(name=name), encoding="utf-8")
        monkeypatch.syspath_prepend(str(folder))
        # For the processes that are started.
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv(PLUGINS, f" {name.lower()}_module,")

    return write


def test_a_comparison_in_processes_of_their_own_knows_a_plugins_model(plugin, tiny, tmp_path):
    plugin("Another")
    tiny.pop("n_pseudo_inputs")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    files = f"--config_files=protocol/strong_generalization {tmp_path / 'tiny.yaml'}"
    small = ("--topk=[5]", "--valid_metric=NDCG@5", "--output=out")
    assert cli.main(["compare", "--models=Another", "--dataset=tiny", files, *small]) == 0
    assert "Another" in Path("out/comparison.csv").read_text(encoding="utf-8")


def test_defaults_of_a_model_of_ones_own_lie_between_its_parents_and_the_users(plugin, tiny):
    plugin("Mine")
    config = Config("Mine", "tiny", config_dict={"data_path": tiny["data_path"]})
    assert config["n_pseudo_inputs"] == 5
    assert config["anneal_cap"] == 0.7
    assert config["mine"] == "x"
    assert config["latent_dimension"] == 200
    given = {"data_path": tiny["data_path"], "anneal_cap": 0.1}
    assert Config("Mine", "tiny", config_dict=given)["anneal_cap"] == 0.1
    assert Config("Vamp", "tiny", config_dict=given)["mine"] is None


@pytest.mark.parametrize(
    "arguments", [["run", "--model=Vamp"], ["inspect", "--model_file=x", "--output=o"]]
)
def test_a_plugin_that_cannot_be_imported_is_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setenv(PLUGINS, "no_such_module_of_mine")
    Path("x").touch()
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert f"{PLUGINS} names 'no_such_module_of_mine', which cannot be imported" in output.err
    with pytest.raises(ValueError, match="no_such_module_of_mine"):
        Config("Vamp", "ml-100k")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        (
            "nowhere",
            None,
            "ModuleNotFoundError: No module named 'nowhere'): is its folder on PYTHON",
        ),
        ("mine", "\nimport nowhere", "No module named 'nowhere', in {}, line 2).\n"),
        ("mine", "1 / 0", "ZeroDivisionError: division by zero, in {}, line 1).\n"),
        ("mine", "x = ", "SyntaxError: invalid syntax (mine.py, line 1)).\n"),
        ("mine.more", "", "No module named 'mine.more'; 'mine' is not a package): is its folder "),
    ],
)
def test_a_plugin_that_cannot_be_imported_says_where(
    name, code, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(PLUGINS, name)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    path = tmp_path / "mine.py"
    if code is not None:
        path.write_text(code, encoding="utf-8")
    assert cli.main(["run"]) == 2
    error = capsys.readouterr().err
    assert f"{PLUGINS} names {name!r}, which cannot be imported (" in error
    assert said.format(path) in error
    assert error.count("\n") == 1
