"""The guides say what the package has: keys, defaults, options, messages, examples."""

import argparse
import ast
import re
import runpy
from contextlib import nullcontext
from dataclasses import fields
from pkgutil import resolve_name

import pytest
import yaml
from recbole.config import Config
from recbole.utils import argument_list

from documents import ROOT, code_blocks, read, tables
from recbole_evcf.commands.options import COMMANDS
from recbole_evcf.config.files import shipped_file
from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.inspection.report import TABLES
from recbole_evcf.model.linear_path import GatedHVampLinear
from recbole_evcf.model.models import NETWORKS
from recbole_evcf.model.vae import Settings

USER_GUIDE = read("docs/user-guide.md")
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "recbole_evcf").rglob("*.py")]
# What RecBole's lists of its keys lack: made by its Config, or of some models; and Ray's.
NOT_OURS = {
    *("MODEL_INPUT_TYPE", "MODEL_TYPE", "device", "local_rank", "single_spec"),
    *("dataset", "encoding", "model", "knn_method", "n_cate"),
    "trial",
}


def shipped(name: str) -> dict:
    return yaml.safe_load(shipped_file(name).read_text(encoding="utf-8"))


def rows_of(heading: str, table: int = 0) -> dict[str, list[str]]:
    """A table's rows by what stands in backticks in their first cell."""
    return {row[0].strip("`"): row[1:] for row in tables(USER_GUIDE, heading)[table][1:]}


def first_literal(cell: str):
    """The value that a cell begins with; none is None."""
    return None if cell == "none" else yaml.safe_load(re.match(r"`(.*?)`", cell)[1])


# Config keys


def test_the_guides_tables_of_keys_are_those_of_the_table_of_keys():
    """python docs/key_tables.py writes them."""
    tables_of_keys = runpy.run_path(str(ROOT / "docs" / "key_tables.py"))
    assert tables_of_keys["with_tables"](USER_GUIDE) == USER_GUIDE


OF_MODELS = {**rows_of("Of the models"), **rows_of("Of the models", 1)}


@pytest.mark.parametrize("model", [m.__name__ for m in NETWORKS if m is not GatedHVampLinear])
def test_the_models_keys_and_defaults(model):
    defaults = {key: first_literal(cells[1]) for key, cells in OF_MODELS.items()}
    assert (f"`{model}`" in OF_MODELS["gated"][1]) == model.startswith("Gated")
    defaults["gated"] = model.startswith("Gated")
    assert defaults == shipped(f"model/{model}")
    assert rows_of("Of the models").keys() == {field.name for field in fields(Settings)}


def bounds():
    """Key, a value at the end of the range that the guide gives, and whether it is inside."""
    for key, (kind, _, said, _) in OF_MODELS.items():
        wrap = (lambda value: [value]) if kind == "list of int" else (lambda value: value)
        least = re.match(r"(?:each )?at least (\d+)", said)
        if least:
            below = 1 if "int" in kind else 0.001
            yield key, wrap(int(least[1])), True
            yield key, wrap(int(least[1]) - below), False
        for value in re.findall(r"`(\w+)`", said):
            yield key, value, True
    yield from (("dropout_prob", 0, True), ("dropout_prob", -0.1, False))
    outside = {"learning_rate": 0, "likelihood": "poisson", "learner": "x", "gated": 1}
    outside |= {"pseudo_inputs_init": "x", "mlp_hidden_size": [], "dropout_prob": 1}
    outside |= {"sparse_input_gradient": 1}
    yield from ((key, value, False) for key, value in outside.items())


@pytest.mark.parametrize(("key", "value", "inside"), bounds())
def test_ranges(key, value, inside):
    with nullcontext() if inside else pytest.raises(ValueError, match=key):
        assert Config("Vamp", "ml-100k", config_dict={key: value})[key] == value


def test_every_number_has_its_range_tried():
    tried = {key for key, _, inside in bounds() if not inside}
    assert OF_MODELS.keys() - tried == {"pseudo_inputs_mean", "train_neg_sample_args"}


def test_the_number_of_components_on_ml_100k():
    (said,) = re.findall(r"on ml-100k (\d+)", rows_of("Of the models")["n_pseudo_inputs"][-1])
    assert shipped("quick_start_config/ml-100k")["n_pseudo_inputs"] == int(said)


def test_every_key_that_the_plugin_reads_is_named():
    read_keys = set(re.findall(r'config\["(\w+)"\]', "\n".join(SOURCES)))
    lists = [keys for keys in vars(argument_list).values() if isinstance(keys, list)]
    ours = read_keys.difference(*lists) - {*Settings.__annotations__} - shipped("model/WMF").keys()
    assert ours - NOT_OURS == rows_of("Of the plugin, for every model").keys()
    assert ours - NOT_OURS == set(with_role(Role.OF_PLUGIN))


# Options


def test_every_command_has_a_section():
    assert set(re.findall(r"^### recbole-evcf (\w+)$", USER_GUIDE, flags=re.M)) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_and_their_defaults(command):
    guide = {name: cells[0] for name, cells in rows_of(f"recbole-evcf {command}").items()}
    parser = argparse.ArgumentParser()
    actions = [parser.add_argument(name, **more) for name, more in COMMANDS[command].options]
    options = [action for action in actions if action.option_strings]
    assert guide == {action.option_strings[-1]: said_of(action) for action in options}


def said_of(action: argparse.Action) -> str:
    if action.required:
        return "required"
    if action.const is True:
        return "off"
    return "" if action.default in (None, "") else f"`{action.default}`"


# Messages and names


def texts_of_the_source() -> str:
    """Every text in the package, the fixed parts of messages among them."""
    nodes = [node for source in SOURCES for node in ast.walk(ast.parse(source))]
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return "\n".join(value for value in values if isinstance(value, str))


def test_messages_are_those_of_the_source():
    texts = texts_of_the_source()
    table = tables(USER_GUIDE, "When something goes wrong")[0][1:]
    assert len(table) > 10
    for says, _ in table:
        for message in re.findall(r"`([^`]*)`", says):
            assert message in texts, message


def test_environment_variables():
    source = set(re.findall(r"RECBOLE_EVCF_[A-Z_]+", texts_of_the_source()))
    assert set(re.findall(r"RECBOLE_EVCF_[A-Z_]+", USER_GUIDE)) == source


def test_files_of_an_inspection():
    rows = tables(USER_GUIDE, "Exit codes, environment variables, files")[2]
    (files,) = (row[0] for row in rows if row[1] == "`inspect`")
    assert sorted(re.findall(r"`(\w+)\.csv`", files)) == sorted(TABLES)


# Code


def test_the_guides_examples_are_the_files():
    blocks = code_blocks(read("docs/developer-guide.md"), "python")
    paths = (ROOT / "docs" / "examples").glob("*.py")
    assert sorted(blocks) == sorted(path.read_text(encoding="utf-8") for path in paths)
    assert len(blocks) == 4
    for block in blocks:
        assert sum(1 for line in block.splitlines() if line.strip()) < 50, block


def test_names_of_the_guides_exist():
    for page in ("docs/user-guide.md", "docs/developer-guide.md"):
        for name in re.findall(r"`(recbole_evcf\.[\w.]+)", read(page)):
            resolve_name(name)


def test_shell_examples_use_options_that_exist():
    options = {name for command in COMMANDS.values() for name, _ in command.options}
    options |= {"--help", "--version"}
    keys = set(shipped("model/GatedHVamp")) | {"epochs", "checkpoint_dir", "data_path", "gpu_id"}
    for page in ("README.md", "docs/recipes.md", "docs/user-guide.md", "docs/developer-guide.md"):
        for block in code_blocks(read(page), "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if "recbole-evcf" in line and "#" not in line.split("recbole-evcf")[0]:
                    for name in re.findall(r"\s(--\w+)", line.split("#")[0]):
                        known = name in options or name[2:] in keys
                        assert known, line
