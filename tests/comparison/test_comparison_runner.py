"""Runs in processes of their own."""

import contextlib
import os
import subprocess
import sys

import psutil
import pytest
import yaml

import acting
from acting import act
from recbole_evcf.comparison import runner
from recbole_evcf.comparison.overrides import parse_models
from recbole_evcf.comparison.plan import make_plan
from recbole_evcf.comparison.runner import run_all
from recbole_evcf.comparison.store import RunStore
from recbole_evcf.comparison.worker import execute


class Store:
    """As much of a store as the runner asks for."""

    def __init__(self, folder):
        self.folder = folder

    def paths(self, run):
        return {"log": str(self.folder / f"{run.digest}.log")}

    def result(self, run):
        path = self.folder / f"{run.digest}.done"
        done = {"curve": [{}], "costs": {"total_seconds": 1.0}}
        return done if path.exists() else None


class Run:
    """As much of a run as the runner asks for."""

    def __init__(self, digest, seed=1):
        self.digest, self.seed = digest, seed
        self.entry = type("Entry", (), {"label": digest})
        self.request, self.settings = {"settings": {"name": digest}}, {}


def test_what_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "work", act)
    lines = []
    runs = [Run("killed"), Run("gone"), Run("wrong"), Run("fine")]
    reasons = run_all(runs, Store(tmp_path), lines.append)
    assert "SIGKILL" in reasons["killed"]
    assert "memory" in reasons["killed"]
    assert "exit code 3" in reasons["gone"]
    assert reasons["wrong"] == "ValueError: no such thing"
    assert reasons["fine"] is None
    assert lines[-1] == "[4/4] fine, seed 1: 1 epoch in 1.0 s"
    assert f"failed: ValueError: no such thing (log: {tmp_path / 'wrong.log'})" in lines[-3]


def test_dataloaders_have_workers_in_a_run_of_its_own(sg, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(sg), encoding="utf-8")
    plan = make_plan(parse_models("Vamp"), "tiny", [str(tmp_path / "tiny.yaml")], {"worker": 1})
    store, (run,) = RunStore("out"), plan.runs
    assert run_all(plan.runs, store, lambda line: None) == {run.digest: None}
    assert store.result(run)["test"] == execute(run.request, "users.csv")["test"]


def test_a_killed_command_leaves_no_run_behind(tmp_path):
    script = "import acting; acting.start_a_run()"
    path = os.pathsep.join([os.path.dirname(acting.__file__), *filter(None, sys.path)])
    command = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    run = psutil.Process(int(command.stdout.readline()))
    command.kill()
    command.communicate()
    with contextlib.suppress(psutil.NoSuchProcess):
        run.wait(60)
    assert not run.is_running()


@pytest.mark.parametrize("done", [True, False])
def test_a_finished_run_is_kept(tmp_path, monkeypatch, done):
    started = []
    monkeypatch.setattr(runner, "_run", lambda run, store: started.append(run.digest) or "stop")
    if done:
        (tmp_path / "a.done").touch()
    assert run_all([Run("a")], Store(tmp_path), lambda line: None) == {
        "a": None if done else "stop"
    }
    assert started == ([] if done else ["a"])
