"""The points around a base, and the page and plot of what was found there."""

import pytest

import gpu
import scaling
from generate import Shape
from measure import Case, Measured
from operations import Network, evaluation_batch, training_batch


def results():
    shape = Shape(30, 20, 200, 15)
    points = [scaling.Point(name, shape, k, 16) for name, k in (("K", 5), ("K", 10), ("users", 5))]
    seconds = {"epoch": 2.0, "evaluation": 0.5}
    return [scaling.Result(p, seconds, {"epoch": 10**9, "evaluation": 10**8}) for p in points]


def test_one_quantity_is_varied_at_a_time():
    command = "--base=30x20x200x15 --factors 1 2 --vary users interactions K batch"
    given = scaling._parser().parse_args(command.split())
    points = scaling._points(given)
    assert [(p.varied, p.value) for p in points] == [
        ("users", 30), ("users", 60), ("interactions", 200), ("interactions", 400),
        ("K", 500), ("K", 1000), ("batch", 200), ("batch", 400),
    ]  # fmt: skip
    assert points[1].shape == Shape(60, 20, 200, 15)
    assert len({scaling._key(p) for p in points}) == 5


def test_the_pseudo_inputs_pass_in_every_batch():
    counts = {"items": 20, "users": 32, "entries": 150, "train_batches": 2}
    counts.update(ranked_users=30, ranked_entries=140)
    network = Network(20, (16,), 4, True, 2, 5)
    found = scaling._flop(results()[0].point, (16,), 4, counts)
    each = [training_batch(network, 16, entries) for entries in (100, 50)]
    assert found["epoch"] == sum(one.flop for one in each)
    assert found["evaluation"] == evaluation_batch(network, 30, 140).flop


def test_the_page_gives_shares_of_the_rate():
    page = scaling._page(1e9, results(), [])
    assert "| K | 10 | 2.000 | 1.0 | 50% | 0.500 | 0.1 | 20% |" in page


def test_without_a_gpu_there_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "_cuda_name", lambda: None)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "gpu.py: no CUDA device here; nothing was measured.\n"


@pytest.mark.parametrize(("other", "good"), [(0.2, True), (0.2001, True), (0.201, False)])
def test_metrics_of_a_gpu_are_compared(other, good):
    result = {"device": "cuda", "metrics": {"ndcg@10": other}, "cpu": {"ndcg@10": 0.2}}
    one = Measured("model", [1.0], [result])
    assert gpu._verdict(Case("model", "cases:both_devices", {}), one)[1] is good
