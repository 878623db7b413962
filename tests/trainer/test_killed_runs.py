"""A run that is killed again and again, at any moment, ends as one that is left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

TESTS = Path(__file__).parents[1]
KILLS = 24


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def result(folder: Path) -> dict:
    content = json.loads((folder / "result.json").read_text())
    del content["model_file"]
    return content


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_kills_at_random_moments_change_nothing(tiny, tmp_path):
    settings = {**tiny, "epochs": 30, "warmup_epochs": 20, "state": "info"}
    (tmp_path / "tiny.yaml").write_text(json.dumps(settings), encoding="utf-8")
    words = ["--model=GatedHVamp", "--dataset=tiny", f"--config_files={tmp_path / 'tiny.yaml'}"]
    asked = {"words": words, "kills": KILLS, "seed": 5}
    done = subprocess.run(
        [sys.executable, TESTS / "killed.py", json.dumps(asked)],
        cwd=tmp_path,
        # A fork does not carry the threads of OpenMP along.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= KILLS
    # They were killed in the midst of training, and that was not in vain.
    assert len(set(told["went_on"])) > 3
    expected = result(tmp_path / "whole")
    whole = torch.load(only(tmp_path / "whole" / "saved", "*.pth"), weights_only=True)
    for number in range(told["finished"]):
        folder = tmp_path / f"killed-{number}"
        assert result(folder) == expected
        newest = max((folder / "saved").glob("*.pth"), key=os.path.getmtime)
        model = torch.load(newest, weights_only=True)
        assert model["epoch"] == whole["epoch"]
        assert same(model["state_dict"], whole["state_dict"])
        assert same(model["optimizer"], whole["optimizer"])
        assert same(model["training"]["progress"], whole["training"]["progress"])
        assert not list((folder / "saved").glob(f"{newest.name}*.resume"))
