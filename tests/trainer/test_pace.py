"""How often a run's files are written, by a clock that only epochs and writing move."""

import contextlib
import glob
import itertools

import pytest
import torch

from build import build
from recbole_evcf.hooks import training
from recbole_evcf.trainer import pace
from recbole_evcf.trainer.checkpoint import load_checkpoint, save_checkpoint

EPOCH, WRITING = 3.0, 1.0


class Stopped(Exception):
    """Ends a training, as Ctrl-C does."""


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pace, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def train(tiny, clock, monkeypatch):
    """Train by scores, of one epoch each; the files written, as (epoch, whether the best model's,
    at which time), and the trainer."""

    def train(scores, settings=(), stop=None, full=False):
        settings = {**tiny, "epochs": len(scores), "stopping_step": 99, **dict(settings)}
        _, loaders, network, trainer = build(settings.pop("model", "Vamp"), "tiny", settings)
        given, written, original = iter(scores), [], trainer._train_epoch

        def epoch(data, number, **more):
            if number == stop:
                raise Stopped
            result = original(data, number, **more)
            clock[0] += EPOCH
            # The weights tell of which epoch they are.
            with torch.no_grad():
                next(network.parameters()).fill_(number)
            return result

        def save(state, path):
            if full and written:
                raise OSError("No space left")
            save_checkpoint(state, path)
            clock[0] += WRITING
            written.append((state["epoch"], path == trainer.saved_model_file, clock[0] - WRITING))

        monkeypatch.setattr(training, "save_checkpoint", save)
        trainer._train_epoch = epoch
        trainer.evaluate = lambda *args, **more: {"mrr@10": next(given)}
        with contextlib.suppress(Stopped):
            trainer.fit(loaders[0], loaders[1])
        return written, trainer

    return train


def saved_epoch(trainer):
    """The epoch that a model file says, and that its weights say."""
    state = load_checkpoint(trainer.saved_model_file)
    name = next(name for name, _ in trainer.model.named_parameters())
    assert (state["state_dict"][name] == state["epoch"]).all()
    return state["epoch"]


def test_training_has_twenty_times_as_long_as_writing(train):
    written, trainer = train([float(n) for n in range(30)])
    # Ever better ones: the first at 3 s, and from then on after 20 s each.
    assert [epoch for epoch, *_ in written] == [0, 7, 14, 21, 28, 29]
    # The last is not lost: it is written at the end, as soon as that is known.
    assert all(is_best for _, is_best, _ in written)
    times = [time for *_, time in written[:-1]]
    assert all(later - earlier - WRITING >= 20 for earlier, later in itertools.pairwise(times))
    assert saved_epoch(trainer) == 29


@pytest.mark.parametrize("stop", [None, 9], ids=["to its end", "stopped"])
def test_a_best_model_that_waits_is_that_of_its_epoch(train, stop):
    # After 0, 3 is better, and waits until 7, when nothing is.
    written, trainer = train([1.0, 0, 0, 2.0, *[0.0] * 8], stop=stop)
    assert [(epoch, time) for epoch, _, time in written] == [(0, 3), (3, 25)]
    assert saved_epoch(trainer) == 3


def test_one_that_waits_is_written_when_training_ends(train):
    written, trainer = train([1.0, 2.0, 3.0, 0.0, 0.0], stop=4)
    assert [epoch for epoch, *_ in written] == [0, 2]
    assert saved_epoch(trainer) == 2


def test_the_state_of_a_later_epoch_comes_after_the_best_model_it_names(train):
    written, trainer = train([1.0, 2.0, *[0.0] * 23], {"resumable": True}, stop=23)
    # At its turn the best model is written, and with it the state; then there is the time of two.
    assert [(epoch, is_best) for epoch, is_best, _ in written] == [
        (0, True), (1, True), (7, False), (21, False),
    ]  # fmt: skip
    assert saved_epoch(trainer) == 1


def test_states_are_as_far_apart(train):
    written, _ = train([1.0, *[0.0] * 29], {"resumable": True}, stop=29)
    assert [epoch for epoch, *_ in written] == [0, 7, 14, 21, 28]
    assert [is_best for _, is_best, _ in written] == [True, *[False] * 4]


def test_the_file_of_the_best_model_is_its_state(train, monkeypatch):
    monkeypatch.setattr(pace, "SHARE", 0)
    written, _ = train([0.0, 1.0, 2.0, 3.0], {"resumable": True})
    assert [(epoch, is_best) for epoch, is_best, _ in written] == [(n, True) for n in range(4)]


def test_without_validation_the_last_epoch_is_saved(train):
    written, trainer = train([0.0] * 10, {"eval_step": 0})
    assert [epoch for epoch, *_ in written] == [0, 7, 9]
    assert saved_epoch(trainer) == 9


def test_what_waits_shares_the_weights_that_no_epoch_changes(train, monkeypatch):
    settings = {"model": "GatedHVampLinear", "linear_weight": 16}
    settings |= {"linear_user_exponent": 0, "linear_max_diagonal": 0}
    settings |= {"linear_reg_weight": 10, "linear_dropout_prob": 0}
    kept = []
    original = training.PluginTrainer._write_checkpoint

    def write(self, state, path, verbose):
        kept.append((state["state_dict"], self.model))
        original(self, state, path, verbose)

    monkeypatch.setattr(training.PluginTrainer, "_write_checkpoint", write)
    train([1.0, 2.0], settings)
    waited, model = kept[-1]
    assert waited["item_weights"].data_ptr() == model.item_weights.data_ptr()
    others = {name for name, _ in model.named_parameters()} - {"item_weights"}
    own = model.state_dict()
    assert others
    assert all(waited[name].data_ptr() != own[name].data_ptr() for name in others)


def test_a_full_disk_at_the_end_is_told_and_leaves_the_older_model(train):
    with pytest.raises(OSError, match="No space left"):
        train([1.0, 2.0], full=True)
    (path,) = glob.glob("saved/*")
    assert load_checkpoint(path)["epoch"] == 0
