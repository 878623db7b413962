"""Runs in processes of their own."""

import pytest

from acting import act
from recbole_evcf.experiment import runner
from recbole_evcf.experiment.runner import run_all


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
