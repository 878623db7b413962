"""Comparisons by Ray, on a cluster of two machines that are both this one, and on this machine."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from pandas.testing import assert_frame_equal

from recbole_evcf import cli
from recbole_evcf.comparison.compare import finish_plan, runs_by
from recbole_evcf.utils.packages import PLUGINS, import_plugins

ray_runs = pytest.importorskip("recbole_evcf.comparison.ray_runs")
EPOCHS = 6


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    # Where the workers find the plugin and its tests' own; its name they get from us.
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    node = {"num_cpus": 1, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def test_a_cluster_gives_what_this_machine_gives(sg, planned, in_process, cluster, monkeypatch):
    monkeypatch.setenv(PLUGINS, "mortal")
    monkeypatch.setattr("recbole_evcf.utils.ray.RETRIES", 1)
    import_plugins()
    settings = {**sg, "epochs": EPOCHS, "data_path": "data", "state": "info"}
    good = "EASE,Vamp,Mortal[deaths=1]"
    bad = "Mortal[deaths=9],Vamp[learning_rate=1e30]"
    plan, runner = runs_by(planned(f"{good},{bad}", settings), "ray", cluster.address, 1, 0)
    lines = []
    outcome = finish_plan(plan, "out", lines.append, runner)

    # What fails is said, and the others end.
    died, wrong = outcome.failures
    assert died[0] == "Mortal[deaths=9]"
    assert died[2].startswith("its process died 2 times (WorkerCrashedError")
    assert wrong[0] == "Vamp[learning_rate=1e30]"
    assert re.match("ValueError: .* is (nan|inf)", wrong[2])
    again = [line for line in lines if line.endswith("(WorkerCrashedError); it is tried again")]
    assert len(again) == 2

    # The killed run was resumed: no epoch that had been kept was trained again.
    log = Path("out/runs", f"{plan.runs[2].name}.log").read_text()
    kept = int(re.search(r"Resuming after epoch (\d+) from", log)[1])
    trained = Path("data/mortal-1").read_text()
    assert trained == 5 * "." + "\n" + 2 * (EPOCHS - 1 - kept) * "."

    # This machine finds the same numbers, and what Ray has found it need not do again.
    local = planned(good, settings)
    here = finish_plan(local, "here", lines.append)
    assert in_process == ["EASE", "Vamp", "Mortal[deaths=1]"]
    columns = [name for name in here.values if name.startswith(("ndcg", "recall", "valid_"))]
    columns += ["epochs", "finished_seeds"]
    there = outcome.values.loc[here.values.index]
    assert_frame_equal(there[columns], here.values[columns], check_exact=True)
    curve = outcome.runs[2][2]["curve"]
    assert [row["epoch"] for row in curve] == list(range(EPOCHS))
    assert finish_plan(local, "out", lines.append).runs == outcome.runs
    assert len(in_process) == 3


def test_what_no_machine_has_is_said_at_once(sg, planned, cluster):
    # There are two CPUs, but not on one machine.
    plan, runner = runs_by(planned("EASE", sg), "ray", cluster.address, 2, 0)
    with pytest.raises(ValueError, match=r"--cpus_per_trial=2 .* is more than any machine of"):
        finish_plan(plan, "out", print, runner)


def test_a_call_that_fails_is_said_in_a_line_and_in_the_log(sg, planned, cluster, monkeypatch):
    def fail(*arguments):
        raise KeyError("a\nb")

    monkeypatch.setattr(ray_runs, "_work", fail)
    plan, runner = runs_by(planned("EASE", sg), "ray", cluster.address, 1, 0)
    outcome = finish_plan(plan, "out", print, runner)
    assert [reason for _, _, reason in outcome.failures] == ["KeyError: a b"]
    log = Path("out/runs", f"{plan.runs[0].name}.log").read_text()
    assert log.startswith("KeyError: a b\n")
    assert "in fail" in log


def test_without_ray_one_line_says_what_to_install(tiny, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, ray_runs.__name__, None)
    words = [f"--{key}={tiny[key]}" for key in ("data_path", "load_col")]
    assert cli.main(["compare", "--models=EASE", "--dataset=tiny", "--tool=ray", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("recbole-evcf: error: --tool=ray needs Ray")
    assert error.endswith('pip install ".[tune]"\n')
    assert not Path("comparison").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_what_is_finished(sent, code, sg):
    Path("tiny.yaml").write_text(yaml.safe_dump({**sg, "epochs": 10**6, "stopping_step": 10**6}))
    words = ["--models=EASE,Vamp", "--dataset=tiny", "--config_files=tiny.yaml", "--output=out"]
    command = [sys.executable, "-m", "recbole_evcf", "compare", *words, "--tool=ray"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        lines = iter(process.stderr.readline, "")
        assert any("EASE, seed 2020: 1 epoch in" in line for line in lines)
        # The other is being trained.
        while not list(Path("out/saved").glob("Vamp-*.pth")):
            time.sleep(0.1)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sent)
        said = process.stderr.read().splitlines()[-1]
    assert process.returncode == code
    assert said.startswith("recbole-evcf: interrupted. Finished runs are kept in out: repeat")
    assert [path.stem.split("-")[0] for path in Path("out/runs").glob("*.json")] == ["EASE"]
    assert not psutil.wait_procs(started, timeout=20)[1]
