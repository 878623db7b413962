"""Models of a user's own, in the commands and in the processes they start."""

import sys
from pathlib import Path

import pytest
from recbole.config import Config

from conftest import config_files
from recbole_evcf import cli
from recbole_evcf.utils.packages import PLUGINS

MINE = """
import recbole_evcf

class {name}(recbole_evcf.Vamp):
    pass

defaults = {{"n_pseudo_inputs": 5, "anneal_cap": 0.7, "mine": "x"}}
recbole_evcf.register_model({name}, defaults=defaults)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Function that writes a module with a model of the given name and names it as a plugin."""

    def write(name: str) -> None:
        path = tmp_path / f"{name.lower()}_module.py"
        path.write_text(MINE.format(name=name), encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        # For the processes that are started.
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv(PLUGINS, f" {name.lower()}_module,")

    return write


def test_a_comparison_in_processes_of_their_own_knows_a_plugins_model(plugin, tiny):
    plugin("Another")
    tiny.pop("n_pseudo_inputs")
    files = config_files(tiny, "protocol/strong_generalization")
    small = ("--topk=[5]", "--valid_metric=NDCG@5", "--output=out")
    assert cli.main(["compare", "--models=Another", "--dataset=tiny", files, *small]) == 0
    assert "Another" in Path("out/comparison.csv").read_text(encoding="utf-8")


def test_defaults_of_a_model_of_ones_own_lie_between_its_parents_and_the_users(plugin, tiny):
    plugin("Mine")
    given = {"data_path": tiny["data_path"], "anneal_cap": 0.1}
    config = Config("Mine", "tiny", config_dict=given)
    keys = ("n_pseudo_inputs", "mine", "latent_dimension", "anneal_cap")
    assert [config[key] for key in keys] == [5, "x", 200, 0.1]
    assert Config("Vamp", "tiny", config_dict=given)["mine"] is None


PLACES = {
    "nowhere": (None, "No module named 'nowhere'): is its folder on PYTHON"),
    "mine": ("\nimport nowhere", "No module named 'nowhere', in {}, line 2).\n"),
    "mine ": ("1 / 0", "ZeroDivisionError: division by zero, in {}, line 1).\n"),
    " mine": ("x = ", "SyntaxError: invalid syntax (mine.py, line 1)).\n"),
    "mine.more": ("", "No module named 'mine.more'; 'mine' is not a package): is its folder "),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_plugin_that_cannot_be_imported_says_where(name, tmp_path, monkeypatch, refused):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(PLUGINS, name)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    path, (code, where) = tmp_path / "mine.py", PLACES[name]
    if code is not None:
        path.write_text(code, encoding="utf-8")
    for arguments in (["run"], ["inspect", f"--model_file={__file__}", "--output=o"]):
        error = refused(*arguments)
        assert f"{PLUGINS} names {name.strip()!r}, which cannot be imported (" in error
        assert where.format(path) in error
    with pytest.raises(ValueError, match=f"{PLUGINS} names"):
        Config("Vamp", "ml-100k")
