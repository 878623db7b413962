"""One trial against RecBole's own way of training it, and Ray's trials against hyperopt's."""

import os
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from recbole.config import Config
from recbole.trainer import Trainer

from build import build
from conftest import config_files
from recbole_evcf import cli
from recbole_evcf.tuning.tuning import attempt_trial, evaluate_on_test_users


def test_a_trial_is_what_recbole_trains(tiny, tmp_path, monkeypatch):
    phases = []
    original = Trainer.evaluate

    def evaluate(self, eval_data, *args, **kwargs):
        phases.append(eval_data.phase)
        return original(self, eval_data, *args, **kwargs)

    settings = {**tiny, "epochs": 4, "valid_metric": "NDCG@10", "learning_rate": 0.01}
    _, (train, valid, test), _, trainer = build("GatedVamp", "tiny", settings)
    score, result = trainer.fit(train, valid)
    expected = trainer.evaluate(test)

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    # What is on the command line is no setting of a trial.
    monkeypatch.setattr("sys.argv", ["prog", "--epochs=1", "--params_file=x"])
    heard = []
    path = str(tmp_path / "models" / "m.pth")
    settings |= {"model": "GatedVamp", "dataset": "tiny"}
    outcome = attempt_trial(settings, path, heard.append)
    assert (outcome["status"], outcome["score"], outcome["valid"]) == ("finished", score, result)
    assert phases == ["valid"] * 4
    assert [epoch for epoch, _ in outcome["history"]] == [1, 2, 3, 4]
    assert dict(outcome["history"])[outcome["best_epoch"]] == score
    assert [so_far["epochs"] for so_far in heard] == [1, 2, 3, 4]
    assert os.listdir(tmp_path / "models") == ["m.pth"]
    assert evaluate_on_test_users(settings, path) == expected
    assert phases[4:] == ["test"]
    # Without the file, as after training on another machine, it is trained again.
    os.remove(path)
    assert evaluate_on_test_users(settings, path) == expected


@pytest.mark.parametrize("model", ["EASE", "BPR", "MultiVAE"])
def test_recboles_own_models(tiny, model):
    settings = {**tiny, "model": model, "dataset": "tiny"}
    assert 0 < attempt_trial(settings, "m/m.pth")["valid"]["hit@10"] <= 1
    assert 0 < evaluate_on_test_users(settings, "m/m.pth")["hit@10"] <= 1


class TestRay:
    @pytest.fixture
    def command(self, tiny):
        pytest.importorskip("ray")
        settings = {**tiny, "model": "Vamp", "dataset": "tiny", "epochs": 4, "warmup_epochs": 1}
        # Relative, as users write it: Ray's workers must find it too.
        settings["data_path"] = "data"
        Path("space.hyper").write_text("learning_rate choice [0.01, 1e30]\n")
        return ["tune", config_files(settings), "--params_file=space.hyper"]

    def test_ray_trains_the_same_trials(self, command, capsys):
        assert cli.main([*command, "--output=one"]) == 0
        assert cli.main([*command, "--output=two", "--tool=ray", "--cpus_per_trial=0.5"]) == 0
        assert capsys.readouterr().out.count("Best is trial") == 2
        one, two = (pd.read_csv(f"{name}/trials.csv").set_index("trial") for name in ("one", "two"))
        columns = ["learning_rate", "status", "ndcg@10", "best_epoch", "epochs", "reason"]
        assert_frame_equal(two[columns], one[columns])
        assert sorted(two["status"]) == ["failed", "finished"]
        assert set(two["epochs"].dropna()) == {4}

    @pytest.mark.parametrize(
        ("model", "settings", "epochs"),
        [("Vamp", {}, 100), ("Vamp", {"total_anneal_steps": 5}, 40), ("BPR", {"epochs": 5}, 1)],
    )
    def test_asha_waits_for_the_warm_up(self, model, settings, epochs):
        ray_search = pytest.importorskip("recbole_evcf.tuning.ray_search")
        config = Config(model, "ml-100k", config_dict=settings)
        assert ray_search.default_grace_period(config) == epochs

    def test_what_ray_does_not_have_is_reported_at_once(self, command, capsys):
        assert cli.main([*command, "--output=out", "--tool=ray", "--gpus_per_trial=64"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "error: --cpus_per_trial=1 --gpus_per_trial=64 is more than any" in error
