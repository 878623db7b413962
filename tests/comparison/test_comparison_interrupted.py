"""A run of a comparison that was interrupted is resumed, with the record of one that was not."""

import json
import os
from pathlib import Path

import pytest
from recbole.config import Config

from recbole_evcf.comparison import worker
from recbole_evcf.comparison.plan import settings_of_result
from recbole_evcf.data.identity import digest_of_data
from recbole_evcf.trainer import resumption
from recbole_evcf.trainer.trainer import VAETrainer

SAME = ("valid", "test", "test_split", "n_train_users")


def work(settings, folder, model="Vamp"):
    """What a process of a comparison does, without the process."""
    os.makedirs(folder, exist_ok=True)
    request = {
        "model": model,
        "dataset": "tiny",
        "config_files": [],
        "settings": {**settings, "checkpoint_dir": f"{folder}/saved"},
    }

    class Connection:
        send = staticmethod(lambda message: None)

    config = Config(model, "tiny", [], dict(settings))
    planned = settings_of_result(config, digest_of_data(config))
    worker.work(request, planned, f"{folder}/run", Connection())
    return json.loads(Path(f"{folder}/run.json").read_text())["value"]


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(worker, "_write_output_to", lambda path: None)
    monkeypatch.setattr(resumption, "SHARE", 0)


def interrupt(monkeypatch, epoch):
    original = VAETrainer._train_epoch

    def _train_epoch(self, data, at, **kwargs):
        if at == epoch:
            raise KeyboardInterrupt
        return original(self, data, at, **kwargs)

    monkeypatch.setattr(VAETrainer, "_train_epoch", _train_epoch)


def without_seconds(curve):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in curve]


def test_it_is_resumed_from_its_state(sg, quiet, monkeypatch):
    settings = {**sg, "epochs": 6, "warmup_epochs": 4}
    whole = work(settings, "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            work(settings, "killed")
    trained = []
    original = VAETrainer._train_batch
    monkeypatch.setattr(
        VAETrainer, "_train_batch", lambda *args: (trained.append(1), original(*args))[1]
    )
    resumed = work(settings, "killed")
    # Two epochs of two batches, 30 users: not the four that were done before.
    assert len(trained) == 2 * 2
    assert {key: resumed[key] for key in SAME} == {key: whole[key] for key in SAME}
    assert without_seconds(resumed["curve"]) == without_seconds(whole["curve"])
    assert Path("killed/run.users.csv").read_bytes() == Path("whole/run.users.csv").read_bytes()
    costs = resumed["costs"]
    assert costs["total_seconds"] > sum(row["seconds"] for row in resumed["curve"])
    assert [name for name in os.listdir("killed/saved") if name.endswith(".resume")] == []


def test_a_result_that_is_not_written_does_not_cost_the_training(sg, quiet, monkeypatch):
    def full(self, name, key, value):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(worker.Store, "put", full)
        patch.setattr(worker.sys, "excepthook", lambda *args: None)
        with pytest.raises(SystemExit):
            work(sg, "folder")
    interrupt(monkeypatch, 0)
    # The first epoch would raise: it is not trained again.
    assert work(sg, "folder")["test"]


def test_other_models_run_as_before(sg, quiet):
    assert work(sg, "folder", model="EASE")["test"]
