"""Files of a result and its settings: the settings as a text."""

import datetime

import pytest
import torch

from recbole_evcf.data.settled_file import read_settled, short_digest, write_settled

DAY = datetime.date(2020, 2, 29)
# Kinds of keys that YAML may mix, and JSON knows in part.
SETTINGS = {"val_interval": {1: "[1,2]", "timestamp": "[0,9]", None: 1, 2.5: [{True: (1, {3: 4})}]}}
OTHERS = [
    {"val_interval": {**SETTINGS["val_interval"], 1: "[1,3]"}},
    {"val_interval": {**SETTINGS["val_interval"], "1": "[1,2]"}},
    {"val_interval": {**SETTINGS["val_interval"], DAY: "[1,2]"}},
    {"val_interval": {str(key): item for key, item in SETTINGS["val_interval"].items()}},
]


def test_keys_of_several_kinds():
    write_settled("kept/x.pth", SETTINGS, {"a": torch.ones(2)})
    assert read_settled("kept/x.pth", SETTINGS, dict)["a"].tolist() == [1, 1]
    same = {"val_interval": dict(reversed(SETTINGS["val_interval"].items()))}
    assert read_settled("kept/x.pth", same, dict) is not None
    assert short_digest(same) == short_digest(SETTINGS)


@pytest.mark.parametrize("other", OTHERS)
def test_other_keys_are_other_settings(other):
    write_settled("x.pth", SETTINGS, {})
    assert read_settled("x.pth", other, dict) is None
    assert short_digest(other) != short_digest(SETTINGS)


def test_a_name_does_not_depend_on_the_release():
    """What was saved before is found again."""
    assert short_digest({"b": [1, 2.5, None], "a": {"y": DAY, "x": "é"}}) == "a7528707ed76"
