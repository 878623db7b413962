"""YAML: plain values, or one sentence."""

import datetime
import os

import pytest

from recbole_evcf.plain_yaml import read_yaml


def test_plain_values():
    text = "a: [1, 2.5, ~, yes]\nb: &x {c: é}\nd: *x\nday: 2020-02-29\n"
    expected = {"a": [1, 2.5, None, True], "b": {"c": "é"}, "d": {"c": "é"}}
    assert read_yaml(text) == {**expected, "day": datetime.date(2020, 2, 29)}
    assert read_yaml("") is None


def test_as_many_values_as_there_may_be(monkeypatch):
    monkeypatch.setattr("recbole_evcf.plain_yaml.MAX_VALUES", 50)
    assert read_yaml(f"[{'1,' * 49}]") == [1] * 49
    with pytest.raises(ValueError, match="too many values"):
        read_yaml(f"[{'1,' * 50}]")


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "stand for too many values"),
        ("a: &a [*a]", "stand for too many values"),
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
