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

from build import SIZES, build


@pytest.fixture(autouse=True)
def _the_same_second(monkeypatch):
    now = datetime.datetime(2026, 1, 2, 3, 4, 5)
    clock = SimpleNamespace(datetime=SimpleNamespace(now=lambda: now))
    monkeypatch.setattr("recbole.utils.utils.datetime", clock)


def train(model, settings):
    _, loaders, _, trainer = build(model, "tiny", settings)
    trainer.fit(loaders[0], loaders[1])
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


def lines(path):
    return [line.split("  ")[-1] for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("before", ["nothing", "a console", "a file"])
def test_each_run_logs_to_a_file_of_its_own(tiny, before, capfd):
    root, level = logging.getLogger(), logging.getLogger().level
    own = {"a console": logging.StreamHandler, "a file": lambda: logging.FileHandler("own.log")}
    handler = own[before]() if before in own else None
    if handler is not None:
        root.addHandler(handler)
    config = Config("BPR", "tiny", config_dict={**tiny, "state": "info"})
    folders = []
    for message in ("one", "two"):
        init_logger(config)
        root.info(message)
        writer = get_tensorboard(root)
        folders.append(writer.log_dir)
        writer.close()
    init_logger(Config("BPR", "tiny", config_dict={**tiny, "state": "info"}))
    root.setLevel(level)
    files = glob.glob("log/BPR/*.log")
    assert sorted(map(lines, files)) == [[], ["one"], ["two"]]
    assert len(set(folders)) == 2
    # Nobody reads a line twice, and who has set up logging goes on with it.
    assert capfd.readouterr().err.count("one") == 1
    if before == "a file":
        assert lines("own.log") == ["one", "two"]
    if handler is not None:
        assert handler in root.handlers
        root.removeHandler(handler)
        handler.close()


def test_a_data_set_with_a_dot_in_its_name_has_a_folder_for_each_run(tiny, tmp_path):
    data = tmp_path / "data"
    (data / "tiny").rename(data / "tiny.v2")
    (data / "tiny.v2" / "tiny.inter").rename(data / "tiny.v2" / "tiny.v2.inter")
    folders = []
    for _ in range(2):
        init_logger(Config("BPR", "tiny.v2", config_dict=tiny))
        trainer = build("BPR", "tiny.v2", tiny)[3]
        folders.append(trainer.tensorboard.log_dir)
        trainer.tensorboard.close()
    assert len(set(folders)) == 2
    assert all("tiny_v2" in folder for folder in folders)
