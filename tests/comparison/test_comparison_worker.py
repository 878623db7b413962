"""One run: what RecBole's own gives, with users, epochs and costs beside it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from recbole.quick_start import run_recbole

from build import build
from recbole_evcf.comparison import worker
from recbole_evcf.comparison.plan import make_plan, parse_models
from recbole_evcf.comparison.worker import execute


def run(model, settings, path="users.csv"):
    return execute(
        {"model": model, "dataset": "tiny", "config_files": [], "settings": settings}, path
    )


@pytest.mark.parametrize("model", ["Vamp", "MultiVAE"])
def test_the_metrics_are_those_of_run_recbole(sg, model):
    result = run(model, sg)
    theirs = run_recbole(model=model, dataset="tiny", config_dict=sg)
    assert result["test"] == pytest.approx(theirs["test_result"])
    assert result["valid"] == pytest.approx(theirs["best_valid_result"])


@pytest.mark.parametrize("split", ["users", "interactions"])
@pytest.mark.parametrize("model", ["Vamp", "EASE"])
def test_values_by_user_have_the_mean_that_is_reported(sg, split, model):
    if split == "interactions":
        del sg["eval_args"]
    result = run(model, sg)
    users = pd.read_csv("users.csv", index_col="user_id")
    assert result["per_user"]
    assert users.index.is_unique
    assert len(users) == result["n_test_users"]
    assert users.columns.tolist() == list(result["test"])
    for key, value in result["test"].items():
        assert users[key].mean() == pytest.approx(value, abs=6e-5)


def test_the_curve_has_the_terms_of_our_models(sg):
    curve = run("Vamp", {**sg, "epochs": 3, "warmup_epochs": 2, "anneal_cap": 0.4})["curve"]
    assert [row["epoch"] for row in curve] == [0, 1, 2]
    assert [row["kl_weight"] for row in curve] == pytest.approx([0, 0.2, 0.4])
    assert all(row["reconstruction"] > 0 and row["seconds"] > 0 for row in curve)
    assert all(0 <= row["valid_score"] <= 1 for row in curve)


def test_costs_are_plausible(sg):
    result = run("Vamp", sg)
    costs = result["costs"]
    assert 0 < costs["training_seconds"] < costs["total_seconds"]
    trained = 2 * result["n_train_users"]
    assert costs["training_users_per_second"] == pytest.approx(trained / costs["training_seconds"])
    assert 2**20 < costs["memory_before"] <= costs["peak_memory"]
    assert costs["peak_gpu_memory"] is None


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


def test_without_metrics_over_users_there_is_no_file(sg, tmp_path):
    settings = {
        **sg,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "uni5"},
        "metrics": ["AUC", "MAE"],
        "valid_metric": "AUC",
    }
    result = run("BPR", settings)
    assert not result["per_user"]
    assert result["test"].keys() == {"auc", "mae"}
    assert result["smaller_is_better"] == ["mae"]
    assert not (tmp_path / "users.csv").exists()


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


@pytest.mark.parametrize("model", ["Vamp", "EASE"])
def test_without_a_test_part_nothing_is_trained(sg, model, monkeypatch):
    monkeypatch.setattr(worker, "get_trainer", None)
    with pytest.raises(ValueError, match=r"^the split leaves nothing to test on\.$"):
        run(model, {**sg, "eval_args": {"split": {"RS": [0.8, 0.2, 0]}}})


def test_what_was_not_planned_is_not_kept(sg, tmp_path, monkeypatch):
    """Each process reads config files and data when its turn comes, which may be days later."""
    monkeypatch.setattr(worker, "_write_output_to", lambda path: None)
    monkeypatch.setattr(worker.sys, "excepthook", lambda *args: None)
    settings, data = tmp_path / "tiny.yaml", Path(sg["data_path"], "tiny", "tiny.inter")
    settings.write_text(yaml.safe_dump(sg), encoding="utf-8")
    (run,) = make_plan(parse_models("Vamp"), "tiny", [str(settings)], {"seed": "3"}).runs
    said = []

    def work():
        connection = type("Connection", (), {"send": staticmethod(said.append)})
        worker.work(run.request, run.settings, str(tmp_path / "run"), connection)
        return json.loads((tmp_path / "run.json").read_text())

    settings.write_text(yaml.safe_dump({**sg, "epochs": 1, "anneal_cap": 0.7}))
    with pytest.raises(SystemExit):
        work()
    settings.write_text(yaml.safe_dump({**sg, "show_progress": True}))
    before = data.read_text()
    data.write_text(before + "u1\ti39\t7\n")
    with pytest.raises(SystemExit):
        work()
    data.write_text(before)
    assert said == [
        "ValueError: the settings of this run have changed since the command started "
        "(anneal_cap, epochs): repeat it.",
        "ValueError: the files of the data set have changed since the command started: repeat it.",
    ]
    assert not (tmp_path / "run.json").exists()
    # What has no effect may change.
    assert work()["key"] == run.settings
    assert said[2:] == [None]
