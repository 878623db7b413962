"""Runs that start in the same second, which RecBole names its files by: each has its own."""

import datetime
import glob
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from recbole.config import Config
from recbole.utils import init_logger
from recbole.utils.utils import get_tensorboard

from build import SIZES, trained


@pytest.fixture(autouse=True)
def _the_same_second(monkeypatch):
    now = datetime.datetime(2026, 1, 2, 3, 4, 5)
    clock = SimpleNamespace(datetime=SimpleNamespace(now=lambda: now))
    monkeypatch.setattr("recbole.utils.utils.datetime", clock)


def train(model, settings):
    loaders, trainer = trained(model, settings)
    return lambda: trainer.evaluate(loaders[2])


@pytest.mark.parametrize("model", ["BPR", "MultiVAE", "RaCT", "EASE", "Vamp"])
def test_two_trainings_do_not_test_one_anothers_model(tiny, model):
    settings = {**tiny, "epochs": 1, "metric_decimal_place": 9, **SIZES.get(model, {})}
    if model != "BPR":
        settings["train_neg_sample_args"] = None
    other = {**settings, "seed": 2, "reg_weight": 0.1}
    alone = train(model, {**settings, "checkpoint_dir": "alone"})()
    first, second = train(model, settings), train(model, other)
    assert first() == alone
    assert second() != alone
    assert all(re.fullmatch(rf"saved/{model}-.*\.pth(\.lock)?", f) for f in glob.glob("saved/*"))


def test_each_run_logs_to_a_file_and_a_folder_of_its_own(tiny, tmp_path, capfd):
    data = tmp_path / "data"
    (data / "tiny" / "tiny.inter").rename(data / "tiny" / "tiny.v2.inter")
    (data / "tiny").rename(data / "tiny.v2")
    root, level = logging.getLogger(), logging.getLogger().level
    own = logging.FileHandler("own.log")
    root.addHandler(own)
    folders = []
    for message in ("one", "two", "three"):
        init_logger(Config("BPR", "tiny.v2", config_dict={**tiny, "state": "info"}))
        root.info(message)
        with get_tensorboard(root) as writer:
            folders.append(writer.log_dir)
    root.setLevel(level)
    logs = [Path(path).read_text().split("  ")[-1] for path in glob.glob("log/BPR/*.log")]
    assert sorted(logs) == ["one\n", "three\n", "two\n"]
    assert len(set(folders)) == 3
    assert all("tiny_v2" in folder for folder in folders)
    # No line is written twice, and whoever has set up logging keeps it.
    assert capfd.readouterr().err.count("one") == 1
    assert Path("own.log").read_text().count("\n") == 3
    assert own in root.handlers
    root.removeHandler(own)
    own.close()
