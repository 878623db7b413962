"""YAML: plain values, or one sentence."""

import datetime
import os
import re
import time

import pytest
import yaml

from recbole_evcf.config.plain_yaml import read_yaml


def test_plain_values():
    text = "a: [1, 2.5, ~, yes]\nb: &x {c: é}\nd: *x\nday: 2020-02-29\n"
    expected = {"a": [1, 2.5, None, True], "b": {"c": "é"}, "d": {"c": "é"}}
    assert read_yaml(text) == {**expected, "day": datetime.date(2020, 2, 29)}
    assert read_yaml("") is None


def test_as_many_values_as_there_may_be(monkeypatch):
    monkeypatch.setattr("recbole_evcf.config.plain_yaml.MAX_VALUES", 50)
    assert read_yaml(f"[{'1,' * 49}]") == [1] * 49
    with pytest.raises(ValueError, match="too many values"):
        read_yaml(f"[{'1,' * 50}]")


def test_merges():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, *a], z: 4}\n"
    assert read_yaml(text)["c"] == {"x": 1, "y": 3, "z": 4}
    assert read_yaml(text) == yaml.safe_load(text)


def test_as_many_merged_values_as_there_may_be(monkeypatch):
    text = "a: &a {x: 1}\nb: {<<: [*a, *a, *a]}"
    # The outer mapping, "a" and "b"; three values in the first, and of each merge "<<" beside.
    monkeypatch.setattr("recbole_evcf.config.plain_yaml.MAX_VALUES", 3 + 3 + 3 + 3 * 3)
    assert read_yaml(text) == {"a": {"x": 1}, "b": {"x": 1}}
    monkeypatch.setattr("recbole_evcf.config.plain_yaml.MAX_VALUES", 3 + 3 + 3 + 3 * 3 - 1)
    with pytest.raises(ValueError, match="too many values"):
        read_yaml(text)


def merges_that_multiply(levels: int) -> str:
    """A few hundred bytes that PyYAML takes minutes for, and much memory."""
    levels = range(1, levels + 1)
    return "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in levels
    )


@pytest.mark.parametrize("levels", [6, 9, 50])
def test_merges_that_multiply(levels):
    start = time.process_time()
    with pytest.raises(ValueError, match="stand for too many values"):
        read_yaml(merges_that_multiply(levels))
    assert time.process_time() - start < 2


def test_memory_that_is_not_there(monkeypatch):
    def fail(self, node):
        raise MemoryError

    monkeypatch.setattr(yaml.SafeLoader, "construct_document", fail)
    with pytest.raises(ValueError, match=r"not valid YAML \(MemoryError\)"):
        read_yaml("a: 1")


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "stand for too many values"),
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
    ],
)
def test_anything_else_is_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(text)
    assert "not valid YAML" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not os.path.exists("made")


@pytest.mark.parametrize(
    ("text", "line", "first"),
    [
        ("epochs: 3\nseed: 1\nepochs: 5\n", 3, 1),
        ("eval_args:\n  order: TO\n  mode: full\n  order: RO\n", 4, 2),
        ("- {a: 1, a: 1}\n", 1, 1),
    ],
)
def test_a_key_that_stands_twice(text, line, first):
    key = "a" if "- {" in text else text.splitlines()[line - 1].split(":")[0].strip()
    sentence = f"line {line}: not valid YAML (the key {key} is there twice, first in line {first})."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_yaml(text)


def test_equal_keys_of_different_kinds_or_maps_are_others():
    assert read_yaml("a: {1: x, '1': y}\nb: {1: x}\n") == {"a": {1: "x", "1": "y"}, "b": {1: "x"}}
