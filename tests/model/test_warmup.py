"""The KL weight's two schedules, and its state in a checkpoint."""

import pytest
import torch

from recbole_evcf.model.warmup import KLWarmup


def test_by_epochs_rises_linearly_to_the_cap():
    warmup = KLWarmup(0.3, epochs=100)
    weights, finished = [], []
    for _ in range(103):
        weights.append(float(warmup.weight))
        finished.append(warmup.finished)
        warmup.next_epoch()
    assert weights[:3] == pytest.approx([0, 0.003, 0.006])
    assert weights[100:] == pytest.approx([0.3] * 3)
    assert finished.index(True) == 100


def test_by_steps_is_recboles_rule():
    warmup = KLWarmup(0.2, steps=50)
    for step in range(1, 30):
        warmup.next_step()
        assert float(warmup.weight) == pytest.approx(min(0.2, step / 50))
        assert warmup.finished == (step >= 10)


@pytest.mark.parametrize("length", [{"steps": 0}, {"epochs": 0}])
def test_no_warmup(length):
    warmup = KLWarmup(0.7, **length)
    assert float(warmup.weight) == pytest.approx(0.7)
    assert warmup.finished


def test_state_is_in_the_state_dict():
    warmup = KLWarmup(0.3, steps=10)
    warmup.next_step()
    warmup.next_epoch()
    fresh = KLWarmup(0.3, steps=10)
    fresh.load_state_dict(warmup.state_dict())
    assert torch.equal(fresh.weight, warmup.weight)
    assert int(fresh.epoch) == 1
