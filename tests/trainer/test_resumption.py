"""A run is resumed where it was stopped, to the same weights; never from another state."""

import contextlib
import fcntl
import glob
import logging
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from build import another_process, build
from conftest import write_inter
from recbole_evcf.trainer import pace, resumption
from recbole_evcf.trainer.checkpoint import load_checkpoint
from recbole_evcf.trainer.linear_path import LinearPathTrainer
from recbole_evcf.trainer.resumption import states_kept, unfinished_runs
from recbole_evcf.trainer.trainer import VAETrainer


class Killed(BaseException):
    """No handler of exceptions gets in its way."""


def state_beside(path):
    """The one state file of a run."""
    (state,) = glob.glob(f"{path}.*.resume")
    return state


def train(settings, model="GatedHVamp", stop_before=None, validate=True):
    """Train until the end, or until an epoch is about to start."""
    _, loaders, network, trainer = build(model, "tiny", settings)
    original = trainer._train_epoch

    def _train_epoch(data, epoch, **kwargs):
        if epoch == stop_before:
            raise Killed
        return original(data, epoch, **kwargs)

    trainer._train_epoch = _train_epoch
    try:
        result = trainer.fit(loaders[0], loaders[1] if validate else None)
    except Killed:
        result = None
    return trainer, network, result, loaders


def train_and_test(settings, *args, **kwargs):
    trainer, network, result, loaders = train(settings, *args, **kwargs)
    return trainer, network, result, trainer.evaluate(loaders[2])


def assert_same(one, other):
    """Weights, best model and all that was counted, to the last bit."""
    for key, value in one[1].state_dict().items():
        assert torch.equal(value, other[1].state_dict()[key]), key
    assert one[2:] == other[2:]
    first, second = (torch.load(run[0].saved_model_file, weights_only=True) for run in (one, other))
    assert first["epoch"] == second["epoch"]
    for key, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][key]), key
    for name in VAETrainer.PROGRESS:
        assert getattr(one[0], name) == getattr(other[0], name), name


@pytest.fixture
def scoring(monkeypatch):
    """From scores to the validation's results, epoch by epoch; the last one for all that follow."""

    def give(*scores):
        def evaluate(self, eval_data, load_best_model=True, **kwargs):
            if load_best_model:
                return original(self, eval_data, load_best_model, **kwargs)
            score = scores[min(len(self.train_loss_dict), len(scores)) - 1]
            return dict.fromkeys(("mrr@10", "ndcg@10"), score)

        original = VAETrainer.evaluate
        monkeypatch.setattr(VAETrainer, "evaluate", evaluate)

    return give


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(pace, "SHARE", 0)


KINDS = {
    "by epochs": {},
    "by steps": {"total_anneal_steps": 30, "model": "Vamp"},
    "adam": {"learner": "adam", "model": "GatedVamp", "enable_amp": True},
    "sgd": {"learner": "sgd", "clip_grad_norm": {"max_norm": 1.0}, "model": "HVamp"},
    "data start": {"pseudo_inputs_init": "data", "likelihood": "bernoulli"},
    "every other epoch": {"eval_step": 2},
    "no validation": {},
    "complete": {},
    "wide": {"sampled_softmax": 5, "sparse_input_gradient": True, "pseudo_input_size": 3},
    "sampled": {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "mode": "uni5"}, "topk": [3]},
}


def test_a_state_leaves_to_the_model_file_what_no_epoch_changes(tiny, every_epoch, monkeypatch):
    original = LinearPathTrainer._valid_epoch
    # The first epoch is the best.
    monkeypatch.setattr(
        LinearPathTrainer,
        "_valid_epoch",
        lambda self, *args, **more: (-len(self.train_loss_dict), original(self, *args, **more)[1]),
    )
    settings, model = {**tiny, "epochs": 4, "implicit_slim_interval": 2}, "GatedHVampLinear"
    settings["linear_max_diagonal"] = 0
    whole = train(settings, model)
    assert whole[1].linear_settings != whole[1].first_settings
    kept = {**settings, "resumable": True}
    path = train(kept, model, stop_before=2)[0].saved_model_file
    state, best = (load_checkpoint(each)["state_dict"] for each in (state_beside(path), path))
    assert best.keys() - state.keys() == {"item_weights"}
    assert_same(train({**kept, "resume": True}, model)[:3], whole[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_one_that_was_not_stopped(tiny, every_epoch, kind):
    settings = {**tiny, "epochs": 6, "valid_metric": "MRR@3", "topk": [3], **KINDS[kind]}
    how = {"model": settings.pop("model", "GatedHVamp"), "validate": kind != "no validation"}
    whole = train_and_test(settings, **how)
    kept = {**settings, "resumable": True}
    # One that is complete is only tested.
    stop = 6 if kind == "complete" else 3
    stopped = train(kept, stop_before=stop, **how)[0].saved_model_file
    resumed = train_and_test({**kept, "resume": True}, **how)
    assert resumed[0].saved_model_file == stopped
    assert resumed[0].start_epoch == stop
    assert_same(whole, resumed)


def test_a_kill_at_any_write_changes_nothing(tiny, every_epoch, scoring, monkeypatch):
    """Before and after each renaming of a file, in turn: every order of events there is."""
    settings = {**tiny, "epochs": 6}
    scoring(0.2, 0.1, 0.4, 0.3, 0.3, 0.5)
    whole = train_and_test(settings)
    moments, written = 0, set()
    replace = os.replace

    for number in range(100):
        writes = iter(range(100))

        def replace_or_die(source, target, number=number, writes=writes):
            write = next(writes)
            if 2 * write == number:
                raise Killed
            replace(source, target)
            written.add(target.endswith(".resume"))
            if 2 * write + 1 == number:
                raise Killed

        kept = {**settings, "checkpoint_dir": f"killed-{number}", "resume": True}
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_or_die)
            ended = train(kept)[2] is not None
        if ended:
            break
        moments += 1
        assert_same(whole, train_and_test(kept))
    assert moments == 2 * settings["epochs"]
    assert written == {True, False}


def test_early_stopping_resumes_counting(tiny, every_epoch, scoring):
    scoring(0.5, 0.9, 0.3)
    settings = {**tiny, "epochs": 9, "stopping_step": 3, "warmup_epochs": 0, "resume": True}
    for stop_before in (1, 2, 4, 5):
        folder = {"checkpoint_dir": f"stopped-{stop_before}"}
        train({**settings, **folder}, stop_before=stop_before)
        trainer, _, result, _ = train({**settings, **folder})
        # Epoch 5 is the fourth that is no better than epoch 1.
        assert max(trainer.train_loss_dict) == 5
        assert (trainer.best_epoch, result) == (1, (0.9, {"mrr@10": 0.9, "ndcg@10": 0.9}))
        # Stopped, but not tested: it stops again at once.
        assert max(train({**settings, **folder})[0].train_loss_dict) == 5


def test_generators_are_restored(tiny):
    loaders = build("Vamp", "tiny", tiny)[1]

    def draws():
        batches = [batch["user_id"].tolist() for batch in loaders[0]]
        return random.random(), np.random.rand(), np.random.randn(), torch.rand(1), batches

    np.random.randn()  # leaves the second of its pair for the next
    states = resumption.generator_states((loaders[0], None))
    first = draws()
    assert draws() != first
    resumption.set_generator_states(states, (loaders[0], None))
    assert draws() == first


def test_epochs_may_be_raised_and_not_be_below_the_state(tiny):
    whole = train_and_test({**tiny, "epochs": 6})
    kept = {**tiny, "checkpoint_dir": "kept", "resume": True}
    path = train({**kept, "epochs": 3})[0].saved_model_file
    assert train({**kept, "epochs": 1}, stop_before=0)[0].start_epoch == 0
    with pytest.raises(ValueError, match=r"is of epoch \d, counted from 0: epochs must be more"):
        train({**kept, "epochs": 1, "resume": path})
    resumed = train_and_test({**kept, "epochs": 6, "resume": path})
    assert resumed[0].start_epoch > 0
    assert_same(whole, resumed)


@pytest.fixture
def stopped(tiny, every_epoch, scoring):
    """Settings of a run that was stopped in epoch 3, best in epoch 1, and the path of its model."""
    settings = {**tiny, "checkpoint_dir": "stopped", "epochs": 5, "resumable": True}
    settings["state"] = "warning"
    scoring(0.2, 0.4, 0.3)
    trainer, *_ = train(settings, stop_before=3)
    return settings, trainer.saved_model_file


OTHERS = {
    **{"learning_rate": 0.001, "seed": 7, "split_seed": 7, "anneal_cap": 0.1, "warmup_epochs": 3},
    **{"train_batch_size": 20, "likelihood": "bernoulli", "valid_metric": "NDCG@10"},
    **{"eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}}, "standard_error": True},
}


@pytest.mark.parametrize(("key", "value"), OTHERS.items())
def test_a_state_of_other_settings_is_never_used(stopped, key, value, caplog):
    settings, path = stopped
    before = Path(state_beside(path)).read_bytes()
    with caplog.at_level(logging.WARNING):
        trainer, *_ = train({**settings, key: value, "resume": True}, stop_before=0)
    assert trainer.start_epoch == 0
    assert "starting from scratch" in caplog.text
    assert re.search(rf"{path} is of a run with other settings or data: .*\b{key} ", caplog.text)
    assert trainer.saved_model_file != path
    assert Path(state_beside(path)).read_bytes() == before


def test_settings_without_effect_may_differ(stopped):
    settings, path = stopped
    assert train(settings, stop_before=0)[0].start_epoch == 0
    assert train({**settings, "resume": True}, model="HVamp", stop_before=0)[0].start_epoch == 0
    changes = {"show_progress": True, "state": "error", "log_wandb": False, "resumable": None}
    trainer, *_ = train({**settings, **changes, "resume": True})
    assert (trainer.saved_model_file, trainer.start_epoch) == (path, 3)


def test_a_state_is_looked_up_by_name(stopped, monkeypatch):
    """Files of other settings are not opened, and of one that fits only what is needed."""
    settings, path = stopped
    for number in range(3):
        train({**settings, "seed": number}, stop_before=1)
    opened = []
    original = resumption.load_checkpoint
    monkeypatch.setattr(
        *(resumption, "load_checkpoint"),
        lambda path, *of: opened.append(path) or original(path, *of),
    )
    assert train({**settings, "resume": True}, stop_before=3)[0].start_epoch == 3
    assert set(opened) == {path, state_beside(path)}


def changed_data(folder, tmp_path):
    lines = (tmp_path / "data" / "tiny" / "tiny.inter").read_text().splitlines()[1:]
    write_inter(tmp_path / folder, "tiny", [line.split("\t") for line in lines][9:])


def test_a_state_of_other_data_is_never_used(stopped, tmp_path):
    settings, path = stopped
    changed_data("data", tmp_path)
    with pytest.raises(ValueError, match="is of a run with other settings or data: data"):
        train({**settings, "resume": path})
    assert train({**settings, "resume": True}, stop_before=0)[0].start_epoch == 0
    assert os.path.exists(state_beside(path))


def test_of_several_the_newest_of_the_present_data_is_taken(stopped, tmp_path):
    settings, oldest = stopped
    newest = train(settings, stop_before=2)[0].saved_model_file
    changed_data("others", tmp_path)
    other = train({**settings, "data_path": str(tmp_path / "others")}, stop_before=3)[0]
    for seconds, path in enumerate((oldest, newest, other.saved_model_file)):
        for file in (path, state_beside(path)):
            os.utime(file, (seconds, seconds))
    assert train({**settings, "resume": True})[0].saved_model_file == newest


def test_damaged_states(stopped):
    """The best model's file holds a state too."""
    settings, path = stopped
    state = Path(state_beside(path))
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", b"no state", whole[: len(whole) // 2], bytes(flipped)):
        state.write_bytes(content)
        assert train({**settings, "resume": True}, stop_before=2)[0].start_epoch == 2


@pytest.mark.parametrize("change", [("epoch", 0), ("seed", 3), ("data", "other")])
def test_a_state_goes_with_its_model_only(stopped, change):
    settings, path = stopped
    state = torch.load(path, weights_only=True)
    key, value = change
    places = {"epoch": state, "data": state["training"], "seed": state["config"]}
    places[key][key] = value
    torch.save(state, path)
    with pytest.raises(ValueError, match="holds no state to resume from"):
        train({**settings, "resume": path})
    assert train({**settings, "resume": True}, stop_before=0)[0].start_epoch == 0


def test_a_named_file_may_be_resumed_with_another_learning_rate(stopped, caplog):
    settings, path = stopped
    changed = {**settings, "learning_rate": 1e-4}
    for name in ("model", "state"):
        file = path if name == "model" else state_beside(path)
        with caplog.at_level(logging.WARNING):
            named = {**changed, "resume": file, "checkpoint_dir": "elsewhere"}
            trainer, *_ = train(named, stop_before=3)
        assert (trainer.saved_model_file, trainer.start_epoch) == (path, 3)
        assert [group["lr"] for group in trainer.optimizer.param_groups] == [1e-4]
        assert "other settings: learning_rate 0.0005 (now 0.0001)" in caplog.text
    assert len(glob.glob("stopped/*.resume")) == 1
    # From now on it is a run of these settings.
    assert train({**changed, "resume": True})[0].saved_model_file == path


def test_a_named_file_that_cannot_be_resumed(stopped):
    settings, path = stopped
    without = train({**settings, "resumable": False})[0].saved_model_file
    for file, cap, message in (
        (path, 0.1, r"other settings or data: anneal_cap 0\.3 \(now 0\.1\)\."),
        (without, 0.3, "holds no state to resume from"),
        ("none.pth", 0.3, r"There is no file none\.pth to resume from"),
    ):
        with pytest.raises(ValueError, match=message):
            train({**settings, "anneal_cap": cap, "resume": file})


def test_a_finished_run_that_is_resumed_is_unfinished(tiny, every_epoch, scoring):
    scoring(0.4, 0.3)
    settings = {**tiny, "epochs": 2, "resumable": True}
    trainer, _, _, loaders = train(settings)
    path = trainer.saved_model_file
    trainer.evaluate(loaders[2])
    assert glob.glob("saved/*.resume") == []
    train({**settings, "epochs": 4, "resume": path}, stop_before=2)
    assert train({**settings, "epochs": 4, "resume": True})[0].saved_model_file == path


def test_a_run_that_is_going_on_is_left_alone(stopped, caplog):
    settings, path = stopped
    before = {name: Path(name).read_bytes() for name in (path, state_beside(path))}
    lock = f"file = open({path + '.lock'!r}, 'w')\nfcntl.flock(file, fcntl.LOCK_EX)"
    with another_process(f"import fcntl\n{lock}"):
        with caplog.at_level(logging.WARNING):
            beside, *_ = train({**settings, "resume": True}, stop_before=0)
        message = "is of a run that is still being trained: starting from scratch."
        assert f"{path} {message}" in caplog.text
        assert (beside.start_epoch, beside.saved_model_file == path) == (0, False)
        with pytest.raises(ValueError, match="is of a run that is still being trained"):
            train({**settings, "resume": path})
        assert {name: Path(name).read_bytes() for name in before} == before
    # The system ended the lock with the process.
    assert train({**settings, "resume": path})[0].start_epoch == 3


def only_the_model(trainer):
    """Whether nothing but the best model's file is left."""
    return os.listdir("saved") == [os.path.basename(trainer.saved_model_file)]


def test_a_run_is_locked_until_its_test_metrics_are_given(tiny):
    trainer, _, _, loaders = train({**tiny, "resumable": True})
    state = state_beside(trainer.saved_model_file)
    with open(trainer.saved_model_file + ".lock", "w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Neither by those of the validation, nor by ones that the command could not write.
    trainer.evaluate(loaders[1])
    with contextlib.suppress(OSError), states_kept():
        trainer.evaluate(loaders[2])
        raise OSError("full")
    with states_kept():
        trainer.evaluate(loaders[2])
        assert os.path.exists(state)
    assert only_the_model(trainer)
    assert unfinished_runs(trainer.config) == []


EVALUATED = {
    "fully": {},
    "sampled": {"mode": "uni5"},
    "nothing to test on": {"split": {"RS": [0.8, 0.2, 0]}},
    "nothing to validate on": {"split": {"RS": [1, 0, 0]}},
}


@pytest.mark.parametrize("how", EVALUATED)
def test_the_state_is_removed_however_a_run_is_evaluated(tiny, how):
    trainer, _, _, loaders = train({**tiny, "resumable": True, "eval_args": EVALUATED[how]})
    assert os.path.exists(state_beside(trainer.saved_model_file))
    trainer.evaluate(loaders[2])
    assert only_the_model(trainer)


def test_validation_on_the_test_users_does_not_end_a_run(tiny):
    _, loaders, _, trainer = build("Vamp", "tiny", {**tiny, "resumable": True, "epochs": 2})
    marked = []

    def mark(epoch, score):
        marked.append(state_beside(trainer.saved_model_file))

    trainer.fit(loaders[0], loaders[2], callback_fn=mark)
    assert len(marked) == 2
    trainer.evaluate(loaders[2])
    assert only_the_model(trainer)


def test_by_default_and_before_the_first_epoch_there_is_no_state(tiny):
    train({**tiny, "resumable": True}, stop_before=0)
    assert os.listdir("saved") == []
    trainer, *_ = train(tiny)
    assert only_the_model(trainer)
    assert "training" not in torch.load(trainer.saved_model_file, weights_only=True)


def test_what_killed_writers_left_is_removed(stopped):
    settings, path = stopped
    for name in (path, state_beside(path)):
        Path(f"{name}.4711.tmp").write_bytes(b"half")
    Path(f"{path}.mine.tmp").write_bytes(b"a user's")
    train({**settings, "resume": True})
    assert glob.glob("stopped/*tmp") == [f"{path}.mine.tmp"]


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("MultiVAE", {"resume": True}, "MultiVAE cannot be resumed"),
        ("EASE", {"resumable": True}, "EASE cannot be resumed"),
        ("Vamp", {"resume": 3}, "resume must be"),
        ("Vamp", {"resumable": "yes"}, "resumable must be"),
        ("Vamp", {"resume": True}, "leave out saved=False"),
    ],
)
def test_wrong_settings(tiny, model, settings, message):
    def fit():
        _, loaders, _, trainer = build(model, "tiny", {**tiny, **settings})
        trainer.fit(loaders[0], loaders[1], saved=False)

    with pytest.raises(ValueError, match=message):
        fit()
