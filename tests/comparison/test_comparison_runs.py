"""One run: what RecBole's own gives, with users, epochs and costs beside it; and its process."""

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from recbole.config import Config
from recbole.quick_start import run_recbole

import acting
from build import build, python
from recbole_evcf.comparison import compare, worker
from recbole_evcf.comparison.compare import finish_plan
from recbole_evcf.comparison.plan import ModelSpec, Plan, Run, settings_of_result
from recbole_evcf.comparison.worker import execute, peak_memory
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.trainer import pace
from recbole_evcf.trainer.trainer import VAETrainer


def request_of(model, settings):
    return {"model": model, "dataset": "tiny", "config_files": [], "settings": settings}


def run(model, settings):
    return execute(request_of(model, settings), "users.csv")


@pytest.mark.parametrize("split", ["users", "interactions"])
@pytest.mark.parametrize("model", ["Vamp", "MultiVAE", "EASE"])
def test_the_metrics_are_those_of_run_recbole_and_the_means_over_users(sg, split, model):
    if split == "interactions":
        del sg["eval_args"]
    result = run(model, sg)
    theirs = run_recbole(model=model, dataset="tiny", config_dict=sg)
    assert result["test"] == pytest.approx(theirs["test_result"])
    assert result["valid"] == pytest.approx(theirs["best_valid_result"])
    users = pd.read_csv("users.csv", index_col="user_id")
    assert result["per_user"]
    assert users.index.is_unique
    assert len(users) == result["n_test_users"]
    assert users.mean().to_dict() == pytest.approx(result["test"], abs=6e-5)


def test_curve_and_costs_of_our_models(sg):
    result = run("Vamp", {**sg, "epochs": 3, "warmup_epochs": 2, "anneal_cap": 0.4})
    curve, costs = result["curve"], result["costs"]
    assert [row["epoch"] for row in curve] == [0, 1, 2]
    assert [row["kl_weight"] for row in curve] == pytest.approx([0, 0.2, 0.4])
    assert all(row["reconstruction"] > 0 and row["seconds"] > 0 for row in curve)
    assert all(0 <= row["valid_score"] <= 1 for row in curve)
    assert 0 < costs["training_seconds"] < costs["total_seconds"]
    trained = 3 * result["n_train_users"]
    assert costs["training_users_per_second"] == pytest.approx(trained / costs["training_seconds"])
    assert 1 < costs["memory_before_mib"] <= costs["peak_memory_mib"]
    assert costs["peak_gpu_memory_mib"] is None


@pytest.mark.parametrize("split", ["users", "interactions"])
def test_the_split_is_the_same_for_every_model_and_seed(sg, split):
    if split == "interactions":
        del sg["eval_args"]
    runs = [
        run(model, {**sg, "seed": seed, "split_seed": 7})
        for model, seed in (("Vamp", 1), ("EASE", 2), ("MultiVAE", 7))
    ]
    assert len({result["test_split"] for result in runs}) == 1
    assert run("EASE", {**sg, "split_seed": 8})["test_split"] != runs[0]["test_split"]
    # A split seed that is the seed changes nothing.
    without = run("MultiVAE", {**sg, "seed": 7})
    assert (without["test"], without["test_split"]) == (runs[2]["test"], runs[2]["test_split"])


def test_without_metrics_over_users_there_is_no_file(sg):
    sampled = {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "uni5"}
    metrics = {"metrics": ["AUC", "MAE"], "valid_metric": "AUC"}
    result = run("BPR", {**sg, "eval_args": sampled, **metrics})
    assert not result["per_user"]
    assert result["test"].keys() == {"auc", "mae"}
    assert result["smaller_is_better"] == ["mae"]
    assert not Path("users.csv").exists()


def test_sampled_evaluation_has_values_by_user_in_the_order_of_its_users(sg):
    sampled = {"split": {"RS": [0.6, 0.2, 0.2]}, "mode": "uni5"}
    settings = {**sg, "eval_args": sampled, "metrics": ["Recall"], "topk": [1]}
    settings["valid_metric"] = "Recall@1"
    run("BPR", settings)
    users = pd.read_csv("users.csv", index_col="user_id")
    # The recall at 1 is 0 or one over the number of the very user's targets.
    _, loaders, _, _ = build("BPR", "tiny", settings)
    dataset = loaders[2]._dataset
    ids, counts = np.unique(np.asarray(dataset.inter_feat["user_id"]), return_counts=True)
    assert (users["recall@1"] > 0).sum() > 5
    for user, count in zip(dataset.id2token("user_id", ids), counts):
        assert users.loc[user, "recall@1"] in (0, pytest.approx(1 / count))


def test_without_a_test_part_nothing_is_trained(sg, monkeypatch):
    monkeypatch.setattr(worker, "get_trainer", None)
    with pytest.raises(ValueError, match=r"^the split leaves nothing to test on\.$"):
        run("Vamp", {**sg, "eval_args": {"split": {"RS": [0.8, 0.2, 0]}}})


# What its process does, without the process


@pytest.fixture
def work(monkeypatch):
    """A function that does what the process of a run does in a folder: what it kept, and sent."""
    monkeypatch.setattr(worker, "_write_output_to", lambda path: None)
    monkeypatch.setattr(worker.sys, "excepthook", lambda *args: None)
    monkeypatch.setattr(pace, "SHARE", 0)

    def work(request, settings, folder):
        sent = []
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(SystemExit):
            worker.work(request, settings, f"{folder}/run", SimpleNamespace(send=sent.append))
        kept = Path(folder, "run.json")
        return json.loads(kept.read_text()) if kept.exists() else None, sent[0]

    return work


@pytest.fixture
def result_in(work):
    def result_in(folder, settings, model="Vamp"):
        config = Config(model, "tiny", [], dict(settings))
        planned = settings_of_result(config, digest_of_data(config))
        request = request_of(model, {**settings, "checkpoint_dir": f"{folder}/saved"})
        kept, _ = work(request, planned, folder)
        return kept and kept["value"]

    return result_in


def interrupt(monkeypatch, epoch):
    original = VAETrainer._train_epoch

    def _train_epoch(self, data, at, **kwargs):
        if at == epoch:
            raise KeyboardInterrupt
        return original(self, data, at, **kwargs)

    monkeypatch.setattr(VAETrainer, "_train_epoch", _train_epoch)


def test_an_interrupted_run_is_resumed_with_the_record_of_one_that_was_not(
    sg, result_in, monkeypatch
):
    settings = {**sg, "epochs": 6, "warmup_epochs": 4}
    whole = result_in("whole", settings)
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            result_in("killed", settings)
    trained = []
    original = VAETrainer._train_batch
    monkeypatch.setattr(
        VAETrainer, "_train_batch", lambda *args: (trained.append(1), original(*args))[1]
    )
    resumed = result_in("killed", settings)
    # Two epochs of two batches, 30 users: not the four that were done before.
    assert len(trained) == 2 * 2
    for key in ("valid", "test", "test_split", "n_train_users"):
        assert resumed[key] == whole[key]
    curves = [pd.DataFrame(each["curve"]).drop(columns="seconds") for each in (resumed, whole)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)
    assert Path("killed/run.users.csv").read_bytes() == Path("whole/run.users.csv").read_bytes()
    seconds = sum(row["seconds"] for row in resumed["curve"])
    assert resumed["costs"]["total_seconds"] > seconds
    assert [name for name in os.listdir("killed/saved") if name.endswith(".resume")] == []
    # Others have no state to resume from.
    assert result_in("other", settings, model="EASE")["test"]


def test_a_result_that_is_not_written_does_not_cost_the_training(sg, result_in, monkeypatch):
    def full(self, name, key, value):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(worker.Store, "put", full)
        assert result_in("folder", sg) is None
    interrupt(monkeypatch, 0)
    # The first epoch would raise: it is not trained again.
    assert result_in("folder", sg)["test"]


def test_what_was_not_planned_is_not_kept(sg, planned, work, tmp_path):
    """Each process reads config files and data when its turn comes, which may be days later."""
    (run,) = planned("Vamp", sg, settings={"seed": "3"}).runs
    settings, data = tmp_path / "tiny.yaml", Path(sg["data_path"], "tiny", "tiny.inter")
    sound = data.read_text()
    others = {"epochs": 1, "anneal_cap": 0.7}
    for change, more, what in ((others, "", "(anneal_cap, "), ({}, "u1\ti39\t7\n", "(data)")):
        settings.write_text(yaml.safe_dump({**sg, **change}))
        data.write_text(sound + more)
        kept, failure = work(run.request, run.settings, ".")
        assert kept is None
        assert failure.startswith("ValueError: the settings or data of this run have changed")
        assert what in failure
    # What has no effect may change.
    settings.write_text(yaml.safe_dump({**sg, "show_progress": True}))
    data.write_text(sound)
    kept, failure = work(run.request, run.settings, ".")
    assert (kept["key"], failure) == (run.settings, None)


# In processes of their own


def test_what_fails_is_logged_and_the_others_run(monkeypatch):
    monkeypatch.setattr(compare, "work", acting.act)
    monkeypatch.setattr(compare, "read_outcome", lambda plan, finished, failures: failures)
    done = {"curve": [{}], "costs": {"total_seconds": 1.0}}
    monkeypatch.setattr(
        compare,
        "read_run",
        lambda run, store: (done, None) if store.path(run.name, ".done").exists() else None,
    )
    runs = [
        Run(ModelSpec(name, name), 1, {}, {"settings": {"name": name}})
        for name in ("killed", "gone", "wrong", "fine")
    ]
    lines = []
    failures = finish_plan(Plan((), (1,), tuple(runs), ""), "out", lines.append)
    killed, gone, wrong = failures.values()
    assert killed == "its process was killed by SIGKILL; most often the memory was used up"
    assert gone == "its process ended with exit code 3"
    assert wrong == "ValueError: no such thing"
    assert lines[-1] == "[4/4] fine, seed 1: 1 epoch in 1.0 s"
    log = f"{Path('out/runs', runs[2].name)}.log"
    assert f"failed: ValueError: no such thing (log: {log})" in lines[-3]


def test_dataloaders_have_workers_in_a_run_of_its_own(sg, planned):
    plan = planned("Vamp", sg, settings={"worker": 1})
    outcome = finish_plan(plan, "out", lambda line: None)
    assert outcome.runs[0][2]["test"] == execute(plan.runs[0].request, "users.csv")["test"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("compare('Pop,EASE', **settings)", "ValueError: its process"),
        (
            "run('EASE', **settings); recbole_evcf.compare('Pop', **settings)",
            "ValueError: its process",
        ),
        (
            "tune('Vamp', 'a.hyper', **settings); recbole_evcf.compare('Pop', **settings)",
            "ValueError: its process",
        ),
        # Both end; which of them first is not determined.
        ("run('Vamp', nproc=2, **settings)", "ChildProcessError: process [01] of 2"),
    ],
)
def test_a_script_without_a_guard_is_told(sg, call, error):
    script = f"import recbole_evcf\nsettings = {sg!r} | dict(dataset='tiny', epochs=1)\n"
    Path("a.hyper").write_text("anneal_cap choice [0.2]")
    Path("script.py").write_text(f"{script}print('again')\nrecbole_evcf.{call}\n")
    ended = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    said = "imported your script, which called the same functions again: put its calls under"
    expected = error + re.escape(f' {said} if __name__ == "__main__".')
    assert re.fullmatch(expected, ended.stderr.splitlines()[-1])
    assert ended.stderr.count("Traceback") == 1
    assert ended.returncode == 1


def test_a_killed_command_leaves_no_run_behind():
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


def test_the_peak_of_memory_is_that_of_the_process_alone():
    before = peak_memory()
    kept = np.ones(int(before + 40) * 2**20 // 8)
    assert peak_memory() >= before + 39
    # A new program, without the package, whose imports are large themselves.
    code = f"from pathlib import Path\n{inspect.getsource(peak_memory)}\nprint(peak_memory())"
    code = f"from __future__ import annotations\n{code}"
    peak = float(python(code))
    assert peak < 128 < kept.nbytes / 2**20
    del kept
    assert peak_memory() >= before + 39
