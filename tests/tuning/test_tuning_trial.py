"""One trial against RecBole's own way of training it."""

import os

import pytest
from recbole.trainer import Trainer

from build import build
from recbole_evcf.tuning.trial import Task, attempt_trial, evaluate_on_test_users, load_data


@pytest.fixture
def task(tiny):
    return Task("GatedVamp", "tiny", {**tiny, "epochs": 4, "valid_metric": "NDCG@10"})


def test_a_trial_is_what_recbole_trains(task, tmp_path, monkeypatch):
    phases = []
    original = Trainer.evaluate

    def evaluate(self, eval_data, *args, **kwargs):
        phases.append(eval_data.phase)
        return original(self, eval_data, *args, **kwargs)

    params = {"latent_dimension": 5, "learning_rate": 0.01}
    _, (train, valid, test), _, trainer = build("GatedVamp", "tiny", {**task.settings, **params})
    score, result = trainer.fit(train, valid)
    expected = trainer.evaluate(test)

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    # What is on the command line is no setting of a trial.
    monkeypatch.setattr("sys.argv", ["prog", "--epochs=1", "--params_file=x"])
    heard = []
    path = str(tmp_path / "models" / "m.pth")
    outcome = attempt_trial(task, params, path, heard.append)
    assert (outcome["status"], outcome["score"], outcome["valid"]) == ("finished", score, result)
    assert phases == ["valid"] * 4
    assert [epoch for epoch, _ in outcome["history"]] == [1, 2, 3, 4]
    assert dict(outcome["history"])[outcome["best_epoch"]] == score
    assert [so_far["epochs"] for so_far in heard] == [1, 2, 3, 4]
    assert os.listdir(tmp_path / "models") == ["m.pth"]
    assert evaluate_on_test_users(task, params, path) == expected
    assert phases[4:] == ["test"]


@pytest.mark.parametrize("model", ["EASE", "BPR", "MultiVAE"])
def test_recboles_own_models(tiny, tmp_path, model):
    task = Task(model, "tiny", tiny)
    path = str(tmp_path / "m" / "m.pth")
    outcome = attempt_trial(task, {}, path)
    assert 0 < outcome["valid"]["hit@10"] <= 1
    assert 0 < evaluate_on_test_users(task, {}, path)["hit@10"] <= 1


def test_a_failure_has_one_line(task, tmp_path):
    outcome = attempt_trial(task, {"learning_rate": 1e30}, "m/m.pth")
    assert outcome["status"] == "failed"
    assert outcome["reason"].startswith("ValueError: Training loss is")


def test_data_without_validation_show_before_training(task):
    load_data(task)
    split = {"eval_args": {"split": {"RS": [0.8, 0, 0.2]}, "order": "RO"}}
    with pytest.raises(ValueError, match="nothing for validation"):
        load_data(Task("GatedVamp", "tiny", {**task.settings, **split}))
    with pytest.raises(ValueError, match="nope"):
        load_data(Task("GatedVamp", "nope", task.settings))
