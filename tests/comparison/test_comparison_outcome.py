"""Figures over seeds and users, and what is not trained again."""

import platform
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_evcf.comparison.report import write_comparison
from recbole_evcf.comparison.tables import caption, metric_table, numbers
from recbole_evcf.results import folder_held, read_sealed, write_sealed


def users_of(folder, label):
    paths = sorted(folder.glob(f"runs/{label}-*.users.csv"))
    return [pd.read_csv(path, index_col="user_id") for path in paths]


def append_user(settings, user):
    with Path(settings["data_path"], "tiny", "tiny.inter").open("a") as file:
        file.writelines(f"{user}\ti{item}\t{item}\n" for item in range(5))


def test_one_seed_has_errors_over_users(compared, sg, tmp_path):
    outcome = compared("Vamp", sg)
    (model,) = outcome.models
    (users,) = users_of(tmp_path / "out", "Vamp")
    for key in outcome.metrics:
        assert model.test[key] == pytest.approx(users[key].mean())
        error = np.std(users[key], ddof=1) / np.sqrt(len(users))
        assert model.standard_error[key] == pytest.approx(error)
    assert model.seed_deviation == {}


def test_several_seeds_are_averaged_by_user(compared, sg, tmp_path):
    outcome = compared("Vamp", sg, seeds=(1, 2, 3))
    (model,) = outcome.models
    frames = users_of(tmp_path / "out", "Vamp")
    assert len(frames) == 3
    for key in outcome.metrics:
        by_seed = [frame[key].mean() for frame in frames]
        by_user = [np.mean([frame.loc[u, key] for frame in frames]) for u in frames[0].index]
        assert model.test[key] == pytest.approx(np.mean(by_seed))
        assert model.seed_deviation[key] == pytest.approx(np.std(by_seed, ddof=1))
        error = np.std(by_user, ddof=1) / np.sqrt(len(by_user))
        assert model.standard_error[key] == pytest.approx(error)


def test_without_values_of_users_the_errors_are_over_seeds(compared, sg, tmp_path):
    compared("Vamp,Random", sg, seeds=(1, 2))
    for path in (tmp_path / "out" / "runs").glob("*.json"):
        # As it is with a metric that is no mean over users.
        content = read_sealed(path)
        content["value"].update(per_user=None, smaller_is_better=["ndcg"])
        write_sealed(path, content)
    outcome = compared("Vamp,Random", sg, seeds=(1, 2))
    for model in outcome.models:
        values = [result["test"]["ndcg@10"] for result in model.results.values()]
        error = np.std(values, ddof=1) / np.sqrt(2)
        assert model.standard_error["ndcg@10"] == pytest.approx(error)
    least = min(outcome.models, key=lambda model: model.test["ndcg@10"])
    assert outcome.best("ndcg@10") == {least.label}
    assert outcome.comparisons == ()
    assert not outcome.has_user_errors
    (single,) = compared("Vamp", sg, seeds=(1,)).models
    assert single.standard_error == {}


def test_a_metric_that_is_no_number_is_null_in_its_file(compared, sg, tmp_path):
    compared("Vamp", sg, seeds=(1, 2))
    for path in (tmp_path / "out" / "runs").glob("*.json"):
        content = read_sealed(path)
        content["value"]["valid"]["ndcg@10"] = float("nan")
        write_sealed(path, content)
        assert read_sealed(path)["value"]["valid"]["ndcg@10"] is None
    (model,) = compared("Vamp", sg, seeds=(1, 2)).models
    assert np.isnan(model.valid["ndcg@10"])


def test_one_test_user_has_no_error(compared, sg, tmp_path):
    for user in range(60, 64):
        append_user(sg, f"u{user}")
    sg["eval_args"]["split"] = {"SG": [62, 1, 1]}
    outcome = compared("Vamp,Pop", sg)
    assert outcome.n_users() == 1
    assert [model.standard_error for model in outcome.models] == [{}, {}]
    assert "nan" not in metric_table(outcome).text(200)
    assert "±" not in metric_table(outcome).text(200)
    assert "±" not in caption(outcome)
    assert outcome.comparisons == ()


def test_costs_name_the_machine_of_each_row(compared, sg, tmp_path):
    """Runs are kept, and the command may go on elsewhere."""
    here = compared("Vamp,Pop", sg, seeds=(1, 2)).models[0].measured_on
    assert here == (
        f"{platform.node()} ({platform.machine()} CPU, threads: {torch.get_num_threads()}), "
        f"torch {torch.__version__}"
    )
    machines = iter(["old GPU, torch 2.6", None])
    for path in sorted((tmp_path / "out" / "runs").glob("Vamp-*.json")):
        content = read_sealed(path)
        content["value"]["measured_on"] = next(machines)
        if content["value"]["measured_on"] is None:
            # As earlier versions wrote it.
            del content["value"]["measured_on"]
        write_sealed(path, content)
    outcome = compared("Vamp,Pop", sg, seeds=(1, 2))
    assert outcome.models[0].measured_on == "old GPU, torch 2.6; unknown"
    assert outcome.models[1].measured_on == here
    assert numbers(outcome)["measured_on"].tolist() == ["old GPU, torch 2.6; unknown", here]
    write_comparison(outcome, str(tmp_path), "c")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("old GPU, torch 2.6; unknown</td>") == 1
    assert "Measured on" not in page


def test_the_best_is_the_greatest_as_printed(compared, sg):
    outcome = compared("Pop,EASE,Random", sg)
    values = {model.label: model.test["ndcg@10"] for model in outcome.models}
    assert outcome.best("ndcg@10") == {max(values, key=values.get)}
    # A copy of a model is as good.
    again = compared("EASE,EASE[reg_weight=250.0001]", sg, folder="again")
    assert again.best("ndcg@10") == {"EASE", "EASE[reg_weight=250.0001]"}


def test_a_failed_model_stands_beside_the_others(compared, sg):
    outcome = compared("Pop,EASE[reg_weight='x'],Random", sg)
    assert [model.label for model in outcome.finished] == ["Pop", "Random"]
    ((label, seed, reason),) = outcome.failures
    assert (label, seed) == ("EASE[reg_weight='x']", 2020)
    assert reason
    assert {test.label for test in outcome.comparisons} == {"Random"}


def test_finished_runs_are_kept_until_a_setting_changes(compared, sg, in_process, tmp_path):
    compared("Pop,EASE", sg)
    compared("Pop,EASE,Random", sg)
    assert in_process == ["Pop", "EASE", "Random"]
    compared("Pop,EASE", {**sg, "reg_weight": 3.0})
    # Pop has no such setting, but the file sets it for all.
    assert in_process[3:] == ["Pop", "EASE"]
    # A damaged file is no finished run.
    for path in (tmp_path / "out" / "runs").glob("Random-*.json"):
        path.write_text('{"key": ')
    compared("Random,EASE", sg)
    assert in_process[5:] == ["Random"]
    for path in (tmp_path / "out" / "runs").glob("EASE-*.users.csv"):
        path.unlink()
    compared("Random,EASE", sg)
    assert in_process[6:] == ["EASE"]


def test_a_folder_that_another_comparison_writes_to_is_refused(compared, sg, in_process, tmp_path):
    refused = pytest.raises(ValueError, match="out is in use by another command")
    with folder_held(str(tmp_path / "out")), refused:
        compared("Pop", sg)
    assert in_process == []
    assert compared("Pop", sg).finished
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["runs"]


def test_a_file_of_other_settings_is_no_finished_run(compared, sg, in_process, tmp_path):
    compared("Pop", sg)
    (path,) = (tmp_path / "out" / "runs").glob("Pop-*.json")
    content = read_sealed(path)
    content["key"]["seed"] = 5
    write_sealed(path, content)
    compared("Pop", sg)
    assert in_process == ["Pop", "Pop"]


def test_a_model_tested_on_other_interactions_is_not_compared(compared, sg, tmp_path):
    compared("Pop,EASE", sg)
    (path,) = (tmp_path / "out" / "runs").glob("EASE-*.json")
    content = read_sealed(path)
    content["value"]["test_split"] = "another"
    write_sealed(path, content)
    outcome = compared("Pop,EASE", sg)
    assert [model.label for model in outcome.finished] == ["Pop"]
    assert "other interactions" in outcome.failures[0][2]
