"""The table of keys holds all that RecBole reads, and its releases' older names only if unread."""

import re
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.config import Config
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_evcf.config import keys
from recbole_evcf.config.files import shipped_names, shipped_yaml

SOURCE = Path(recbole.__file__).parent
READS = r"""config(?:_dict)?(?:\.get\(|\[)\s*["'](\w+)["']"""
# Kinds of parameters of a search, and a part of eval_args; and two names that are only warned of.
NO_KEYS = {"choice", "loguniform", "quniform", "uniform", "full", "queue"}
OLD = {"neg_sampling", "training_neg_sample_num"}


def test_every_key_that_recboles_code_reads_is_known():
    read = set()
    for path in SOURCE.rglob("*.py"):
        read |= set(re.findall(READS, path.read_text(encoding="utf-8")))
    lists = general_arguments + training_arguments + evaluation_arguments + dataset_arguments
    known = {*lists, *keys.READ_BY_RECBOLE, *keys.keys_of_all_models()}
    assert len(read) > 300
    assert read - known - NO_KEYS == OLD
    assert keys.RENAMED.keys() >= OLD


def test_keys_of_files_are_those_that_yaml_reads():
    files = [path for path in SOURCE.rglob("*.yaml") if "url" not in path.name]
    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    expected = {key for content in contents for key in content or ()}
    assert expected <= keys.keys_of_all_models()
    assert "n_pseudo_inputs" in keys.keys_of_all_models()
    # The names of data sets in the files of addresses are no keys.
    assert "ml-1m" not in keys.keys_of_all_models()


def test_no_older_name_is_read_by_recbole():
    lists = general_arguments + training_arguments + evaluation_arguments + dataset_arguments
    assert not keys.RENAMED.keys() & {*lists, *keys.keys_of_all_models()}


@pytest.mark.parametrize("name", keys.OWN_KEYS)
@pytest.mark.parametrize("value", [5.5, ["x"]])
def test_a_value_of_another_kind_for_a_key_of_the_plugin(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be {keys.OWN_KEYS[name].kind}, not "):
        Config("Vamp", "ml-100k", config_dict={name: value})


@pytest.mark.parametrize("name", [name for name in shipped_names() if "published" not in name])
def test_every_shipped_file_has_known_keys(name):
    content = yaml.safe_load(shipped_yaml(name).read_text(encoding="utf-8"))
    Config(content.get("model", "GatedHVamp"), "ml-100k", [name])
