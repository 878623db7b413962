"""Files are whole or absent, and on the disk before they have their name."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from recbole_evcf.results import read_sealed, write_sealed
from recbole_evcf.utils.files import atomic_write, remove_leftovers, write_json


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_json(str(path), {"a": 1})
    with pytest.raises(TypeError):
        write_json(str(path), {"a": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]


def test_content_and_name_reach_the_disk_in_that_order(tmp_path, monkeypatch):
    path, events, replace = str(tmp_path / "x"), [], os.replace

    def noting_sync(handle):
        events.append(os.readlink(f"/proc/self/fd/{handle}"))

    def noting_replace(source, target):
        assert Path(source).read_text() == "content"
        events.append((source, target))
        replace(source, target)

    monkeypatch.setattr("os.fsync", noting_sync)
    monkeypatch.setattr("os.replace", noting_replace)
    with atomic_write(path) as temporary, open(temporary, "w") as file:
        file.write("content")
    assert events == [temporary, (temporary, path), str(tmp_path)]


def test_only_leftovers_are_removed(tmp_path):
    path = str(tmp_path / "a[1].pth")
    keep = ["a[1].pth", "a[1].pth.1.bak", "a[1].pth.x.tmp", "a1.pth.12.tmp", "b.12.tmp"]
    for name in [*keep, "a[1].pth.12.tmp", "a[1].pth.7.tmp"]:
        (tmp_path / name).touch()
    remove_leftovers(path)
    assert sorted(os.listdir(tmp_path)) == sorted(keep)


def test_json_files_have_null_for_what_is_no_number(tmp_path):
    content = {"values": [math.nan, math.inf, np.float32("nan"), 1.5], "one": {"x": -math.inf}}
    write_json(str(tmp_path / "x.json"), content)
    write_sealed(str(tmp_path / "y.json"), content)
    expected = {"values": [None, None, None, 1.5], "one": {"x": None}}
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == expected
    assert read_sealed(str(tmp_path / "y.json")) == expected
