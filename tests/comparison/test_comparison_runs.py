"""Runs in processes of their own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import yaml

import acting
from acting import act
from recbole_evcf.comparison import compare
from recbole_evcf.comparison.compare import Runs
from recbole_evcf.comparison.plan import make_plan, parse_models
from recbole_evcf.comparison.worker import execute


class Acting(Runs):
    """Runs that are finished once a file says so."""

    def result(self, run):
        done = {"curve": [{}], "costs": {"total_seconds": 1.0}}
        return done if os.path.exists(self.path(run, ".done")) else None


def plan_of(*names):
    """As much of a plan as its runs ask for."""
    make = SimpleNamespace
    runs = [
        make(spec=make(label=n), seed=1, name=n, request={"settings": {"name": n}}, settings={})
        for n in names
    ]
    return make(runs=runs)


def test_what_fails_is_logged_and_the_others_run(monkeypatch):
    monkeypatch.setattr(compare, "work", act)
    lines = []
    failures = Acting("out").finish(plan_of("killed", "gone", "wrong", "fine"), lines.append)
    assert "SIGKILL" in failures["killed"]
    assert "memory" in failures["killed"]
    assert "exit code 3" in failures["gone"]
    assert failures["wrong"] == "ValueError: no such thing"
    assert "fine" not in failures
    assert lines[-1] == "[4/4] fine, seed 1: 1 epoch in 1.0 s"
    assert f"failed: ValueError: no such thing (log: {Path('out/runs/wrong.log')})" in lines[-3]


def test_dataloaders_have_workers_in_a_run_of_its_own(sg, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(sg), encoding="utf-8")
    plan = make_plan(parse_models("Vamp"), "tiny", [str(tmp_path / "tiny.yaml")], {"worker": 1})
    kept, (run,) = Runs("out"), plan.runs
    assert kept.finish(plan, lambda line: None) == {}
    assert kept.result(run)["test"] == execute(run.request, "users.csv")["test"]


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
