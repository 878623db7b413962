"""Cores that other programs take are noticed; ``torch_threads`` sets how many threads train."""

import subprocess
import sys

import pytest
import torch
from recbole.config import Config
from recbole.trainer import Trainer

from build import build
from recbole_evcf import distributed
from recbole_evcf.trainer import shared_processor
from recbole_evcf.trainer.shared_processor import Clocks, SharedProcessor


@pytest.fixture(autouse=True)
def threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def fake_clocks(monkeypatch, *readings):
    left = iter(readings)
    monkeypatch.setattr(shared_processor, "clocks", lambda: next(left))


@pytest.mark.parametrize(
    ("cores", "threads", "others", "fewer"),
    [
        (2, 2, 1.0, 1),
        (2, 2, 0.5, 1),
        (2, 2, 0.3, None),
        (2, 1, 1.5, None),
        (8, 8, 1.0, 7),
        (8, 8, 2.4, 6),
        (8, 4, 4.0, None),
        (8, 4, 6.0, 2),
        (4, 4, 3.9, 1),
        # Torch does not see the limit of a container: no other program is in the way.
        (2, 8, 0.1, None),
    ],
)
def test_fewer_threads_are_advised_where_others_take_cores(
    monkeypatch, cores, threads, others, fewer
):
    torch.set_num_threads(threads)
    seconds, own = 4.4, 5.0
    last = Clocks(100.0, 7.0, 50.0, cores)
    now = Clocks(100 + seconds, 7 + own, 50 + own + others * seconds, cores)
    fake_clocks(monkeypatch, last, now)
    advice = SharedProcessor().advice()
    if fewer is None:
        assert advice is None
    else:
        assert f"{others:.1f} of the {cores} cores, and {threads} threads" in advice
        assert f"torch_threads: {fewer} is faster" in advice


def test_short_epochs_are_judged_together_and_the_line_comes_once(monkeypatch, tiny):
    torch.set_num_threads(2)
    # Others take a core, while an epoch lasts 0.4 s.
    fake_clocks(monkeypatch, *(Clocks(0.4 * i, 0.4 * i, 0.8 * i, 2) for i in range(9)))
    _, loaders, _, trainer = build("Vamp", "tiny", {**tiny, "epochs": 8, "eval_step": 0})
    said = []
    monkeypatch.setattr(
        trainer.logger, "warning", lambda line: said.append(len(trainer.train_loss_dict))
    )
    trainer.fit(loaders[0])
    # RecBole notes an epoch after it: this is in the third.
    assert said == [2]


@pytest.mark.parametrize("count", [1, 2])
def test_processes_that_train_together_are_no_other_programs(count, monkeypatch, tiny):
    _, loaders, _, trainer = build("Vamp", "tiny", tiny)
    monkeypatch.setattr(distributed, "_group", distributed._Group(0, count))
    monkeypatch.setattr(distributed, "from_first", lambda value: value)
    monkeypatch.setattr(Trainer, "fit", lambda *_: None)
    trainer.fit(loaders[0])
    assert (trainer._processor is None) == (count > 1)


def test_busy_processes_are_noticed():
    clocks = shared_processor.clocks()
    torch.set_num_threads(max(clocks.cores, 2))
    busy = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(busy) for _ in range(clocks.cores)]
    try:
        watch, advice = SharedProcessor(), None
        matrix = torch.ones(500, 500)
        while advice is None and shared_processor.clocks().wall < clocks.wall + 60:
            matrix @ matrix
            advice = watch.advice()
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert "torch_threads: " in advice


def test_a_config_sets_the_threads_and_the_next_one_without_takes_them_back():
    torch.set_num_threads(2)
    for given, threads in [(3, 3), (1, 1), (None, 2)]:
        Config("Vamp", "ml-100k", config_dict={"torch_threads": given})
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    Config("Pop", "ml-100k")
    assert torch.get_num_threads() == 1
