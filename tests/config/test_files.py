"""Config files and YAML: plain values, or one sentence."""

import datetime
import re
import time
from pathlib import Path

import pytest
import yaml
from recbole.config import Config

from recbole_evcf.commands.options import split_files
from recbole_evcf.config import files
from recbole_evcf.config.files import properties_path, read_yaml, shipped_file


@pytest.mark.parametrize("name", ["model/Vamp", "model/Vamp.yaml", "model/../model/Vamp"])
def test_by_name_with_or_without_the_ending(name):
    assert shipped_file(name).samefile(properties_path() / "model" / "Vamp.yaml")


@pytest.mark.parametrize(
    "kind", ["model/../../{}", "../{}", "{folder}/{}", "linked/{}", "model/\0{}"]
)
def test_names_stay_in_the_folder(tmp_path, monkeypatch, kind):
    (tmp_path / "properties" / "model").mkdir(parents=True)
    (tmp_path / "outside.yaml").write_text("a: 1\n", encoding="utf-8")
    (tmp_path / "properties" / "linked").symlink_to(tmp_path)
    monkeypatch.setattr(files, "properties_path", lambda: tmp_path / "properties")
    assert shipped_file(kind.format("outside", folder=tmp_path)) is None


def test_config_files_by_name_and_path(tmp_path):
    (tmp_path / "own.yaml").write_text("latent_dimension: 17\n", encoding="utf-8")
    config = Config("GatedHVamp", "ml-100k", ["model/Vamp", str(tmp_path / "own.yaml")])
    assert (config["gated"], config["latent_dimension"]) == (False, 17)
    with pytest.raises(ValueError, match=r"no config file nope; the package ships .*model/Vamp"):
        Config("Vamp", "ml-100k", ["nope"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.yaml b.yaml", ["a.yaml", "b.yaml"]),
        ("'my own.yaml' b.yaml", ["my own.yaml", "b.yaml"]),
        ('"my own.yaml"', ["my own.yaml"]),
        ("my own.yaml", ["my", "own.yaml"]),
        ("one file.yaml", ["one file.yaml"]),
        (r"C:\a#b.yaml", [r"C:\a#b.yaml"]),
        ("", []),
    ],
)
def test_files_of_the_command_line(text, found, tmp_path):
    (tmp_path / "one file.yaml").touch()
    assert split_files(text) == found


@pytest.mark.parametrize("given", ["own.yaml", 5])
def test_what_is_no_list_of_files(given):
    sentence = f"config_file_list must be a list of files, such as ['mine.yaml'], not {given!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Config("BPR", "ml-100k", given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: [1, 2\nc: 3\n", r"bad\.yaml: line 3: not valid YAML"),
        (b"- a\n- b\n", "must hold lines of `key: value`; it holds a list"),
        (b"3\n", "it holds a int"),
        (b"5: 3\n", r"bad\.yaml: a key must be a string, not '5'\."),
        (b"a: \xff", r"bad\.yaml: not valid YAML"),
    ],
)
def test_malformed_files(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Config("Vamp", "ml-100k", [str(path)])


@pytest.mark.parametrize("content", ["", "# latent_dimension: 3\n", "---\n"])
@pytest.mark.parametrize("model", ["Vamp", "BPR"])
def test_a_file_of_comments_sets_nothing(tmp_path, content, model):
    """RecBole without the plugin ends in a TypeError."""
    path, other = tmp_path / "comments.yaml", tmp_path / "other.yaml"
    path.write_text(content, encoding="utf-8")
    other.write_text("seed: 17\n", encoding="utf-8")
    with_it = Config(model, "ml-100k", [str(path), str(other), str(path)])
    assert with_it["seed"] == 17
    assert with_it.final_config_dict == Config(model, "ml-100k", [str(other)]).final_config_dict


@pytest.mark.parametrize("model", ["BPR", "Vamp"])
def test_none_in_a_file_is_null(model):
    """YAML has null for it, and takes None for a string: a file of that name was written."""
    Path("own.yaml").write_text("per_user_file: None\neval_args: {group_by: None}\n")
    from_file = Config(model, "ml-100k", ["own.yaml"])
    given = {"per_user_file": "None", "eval_args": {"group_by": "None"}}
    for config in (from_file, Config(model, "ml-100k", config_dict=given)):
        assert config["per_user_file"] is None
        assert config["eval_args"]["group_by"] is None


def test_plain_values():
    text = "a: [1, 2.5, ~, yes]\nb: &x {c: é}\nd: *x\nday: 2020-02-29\n"
    expected = {"a": [1, 2.5, None, True], "b": {"c": "é"}, "d": {"c": "é"}}
    assert read_yaml(text) == {**expected, "day": datetime.date(2020, 2, 29)}
    assert read_yaml("") is None
    assert read_yaml("a: {1: x, '1': y}") == {"a": {1: "x", "1": "y"}}
    merged = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, *a], z: 4}\n"
    assert read_yaml(merged)["c"] == {"x": 1, "y": 3, "z": 4}
    assert read_yaml(merged) == yaml.safe_load(merged)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"[{'1,' * 49}]", 50),
        # The outer mapping, "a" and "b"; three values in the first, and of each merge "<<" beside.
        ("a: &a {x: 1}\nb: {<<: [*a, *a, *a]}", 3 + 3 + 3 + 3 * 3),
    ],
)
def test_as_many_values_as_there_may_be(text, count, monkeypatch):
    monkeypatch.setattr(files, "MAX_VALUES", count)
    assert read_yaml(text) == yaml.safe_load(text)
    monkeypatch.setattr(files, "MAX_VALUES", count - 1)
    with pytest.raises(ValueError, match="too many values"):
        read_yaml(text)


def nested(first: str, rest: str, levels: int) -> str:
    """A few hundred bytes that PyYAML takes minutes for, and much memory."""
    lines = (f"a{n}: &a{n} {rest.format(f'*a{n - 1},' * 9)}\n" for n in range(1, levels + 1))
    return f"a0: &a0 {first}\n{''.join(lines)}"


@pytest.mark.parametrize("levels", [6, 9, 50])
def test_merges_that_multiply(levels):
    start = time.process_time()
    with pytest.raises(ValueError, match="stand for too many values"):
        read_yaml(nested("{x: 1}", "{{<<: [{}]}}", levels))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested("[x,x,x,x,x,x,x,x,x]", "[{}]", 8), "stand for too many values"),
        ("a: &a [*a]", "stand for too many values"),
        ("a: &a {<<: *a}", "stand for too many values"),
        ("a: {<<: 3}", "expected a mapping or list of mappings"),
        ("[" * 300 + "]" * 300, "stand for too many values|recursion"),
        ("a: 2020-13-45", "month must be in"),
        ("a: !!int x", "invalid literal"),
        ("a: !!bool x", "KeyError|'x'"),
        ("a: 1\nb: [", "^line 2: not valid YAML"),
        ("a: !!python/object/apply:os.mkdir [made]", "could not determine a constructor"),
        ("a: \x00", "special characters"),
        ("seed: 1\nb: 1\nseed: 5\n", r"^line 3: .*\(the key seed is there twice, first in "),
        ("a:\n  b: TO\n  c: full\n  b: RO\n", r"^line 4: .*the key b .*twice, .* line 2\)\."),
        ("- {a: 1, a: 1}\n", r"^line 1: not valid YAML \(the key a .*twice, first in line 1"),
    ],
)
def test_anything_else_is_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(text)
    assert "not valid YAML" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not Path("made").exists()
