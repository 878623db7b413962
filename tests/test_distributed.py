"""Two processes do what one does: numbers, users, and files. One start of two serves all tests."""

from itertools import chain
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import torch

from build import build
from conftest import write_inter
from recbole_evcf import distributed
from recbole_evcf.data.digest import digest_of_training
from workers import free_port, train, train_all

SG = {
    "eval_args": {
        "split": {"SG": [0.5, 0.2, 0.3]},
        "order": "RO",
        "group_by": "user",
        "mode": "full",
    }
}
SAMPLED = {
    "eval_args": {
        "split": {"RS": [0.6, 0.2, 0.2]},
        "order": "RO",
        "group_by": "user",
        "mode": "uni20",
    }
}
ONE_TEST_USER = {"eval_args": {**SG["eval_args"], "split": {"SG": [-1, 4, 1]}}}
# By name: model, settings, precision.
RUNS = {
    "one level": ("Vamp", {}, "float64"),
    "two levels": ("GatedHVamp", {"train_batch_size": 17}, "float64"),
    "two levels, deep, by users": ("HVamp", {**SG, "mlp_hidden_size": [16, 12]}, "float64"),
    "bernoulli, by users": ("GatedVamp", {**SG, "likelihood": "bernoulli"}, "float64"),
    "standard normal": ("GatedMultiVAE", SG, "float64"),
    # Steps in proportion to the gradient: a wrong scale would show, as Adam would hide it.
    "gradient descent": ("Vamp", {"learner": "sgd", "learning_rate": 0.05}, "float64"),
    "clipped": (
        "Vamp",
        {"learner": "adam", "clip_grad_norm": {"max_norm": 0.5}, "weight_decay": 0.01},
        "float64",
    ),
    "a last batch of one": ("Vamp", {"train_batch_size": 59, "learner": "sgd"}, "float64"),
    "one test user": ("GatedHVamp", {**ONE_TEST_USER, "seed": 3}, "float64"),
    "starting from data": ("Vamp", {"pseudo_inputs_init": "data"}, "float64"),
    "sampled candidates": ("Vamp", SAMPLED, "float64"),
    "stopping early": ("Vamp", {"epochs": 40, "stopping_step": 2, "warmup_epochs": 0}, "float64"),
    "other metrics": (
        "Vamp",
        {"metrics": ["GAUC", "NDCG"], "valid_metric": "NDCG@10"},
        "float64",
    ),
    "other metrics, one test user": (
        "Vamp",
        {**ONE_TEST_USER, "metrics": ["GAUC", "NDCG"], "valid_metric": "NDCG@10"},
        "float64",
    ),
    "single precision": ("GatedHVamp", {"per_user_file": "users.csv", **SG}, "float32"),
    "bf16": ("GatedHVamp", {"enable_amp": True, "learner": "sgd"}, "float32"),
}
# Two processes are stopped after the epoch, of which the second has no file, and go on.
STOPPED = {"stopped": ("GatedHVamp", {**SG, "epochs": 5, "stop_after": 1}, "float64")}
EXACT = [name for name, run in RUNS.items() if run[2] == "float64"]


@pytest.fixture(scope="module")
def tiny_settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(11)
    rows = []
    for user in range(60):
        items = rng.choice(40, size=int(rng.integers(7, 20)), replace=False)
        rows += [(f"u{user}", f"i{item}", int(rng.integers(1000))) for item in items]
    write_inter(folder, "tiny", rows)
    return {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "mlp_hidden_size": [16],
        "latent_dimension": 8,
        "n_pseudo_inputs": 7,
        "train_batch_size": 16,
        "epochs": 3,
        "warmup_epochs": 2,
        "show_progress": False,
        "state": "error",
        "metrics": ["NDCG", "Recall", "MRR"],
        "topk": [5, 10],
        "metric_decimal_place": 12,
        "standard_error": True,
        "log_wandb": True,
    }


@pytest.fixture(scope="module")
def both(tiny_settings, tmp_path_factory):
    """What two processes noted of each run, and their folders."""
    folders = [tmp_path_factory.mktemp(f"process{rank}") for rank in range(2)]
    runs = {
        name: (model, {**tiny_settings, **settings, "checkpoint_dir": f"saved/{number}"}, dtype)
        for number, (name, (model, settings, dtype)) in enumerate({**RUNS, **STOPPED}.items())
    }
    context, port, ends, started = get_context("spawn"), free_port(), [], []
    for rank, folder in enumerate(folders):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=train_all, args=(rank, 2, port, str(folder), runs, theirs), daemon=True
        )
        process.start()
        theirs.close()
        ends.append(ours)
        started.append(process)
    results = [end.recv() for end in ends]
    for process in started:
        process.join()
    return results, folders


@pytest.fixture(scope="module")
def alone(tiny_settings, tmp_path_factory):
    """A function that gives what one process notes of a run, and its folder."""
    folder, results = tmp_path_factory.mktemp("alone"), {}

    def result(name):
        if name not in results:
            model, settings, dtype = RUNS[name]
            place = {"checkpoint_dir": str(folder / str(len(results)))}
            if "per_user_file" in settings:
                place["per_user_file"] = str(folder / "users.csv")
            results[name] = train(model, {**tiny_settings, **settings, **place}, dtype)
        return results[name]

    return result, folder


@pytest.mark.parametrize("name", EXACT)
def test_losses_weights_and_metrics_are_those_of_one_process(both, alone, name):
    one = alone[0](name)
    for two in (process[name] for process in both[0]):
        np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-10)
        for key, weight in one["weights"].items():
            np.testing.assert_allclose(two["weights"][key], weight, rtol=1e-6, atol=1e-9)
        for phase in ("valid", "test"):
            assert two[phase] == pytest.approx(one[phase], abs=1e-9, nan_ok=True)


def test_a_resumed_run_of_two_is_one_that_was_never_stopped(both, tiny_settings, tmp_path):
    model, settings, dtype = STOPPED["stopped"]
    settings = {**tiny_settings, **settings, "checkpoint_dir": str(tmp_path)}
    del settings["stop_after"]
    one = train(model, settings, dtype)
    for two in (process["stopped"] for process in both[0]):
        np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-10)
        assert two["test"] == pytest.approx(one["test"], abs=1e-9)
        # It did go on, not anew.
        assert 0 < len(two["trained"]) < len(one["trained"])
    assert both[0][0]["stopped"]["valid"] == pytest.approx(one["valid"], abs=1e-9)


@pytest.mark.parametrize(("name", "tolerance"), [("single precision", 1e-5), ("bf16", 2e-3)])
def test_less_precision_differs_by_its_rounding(both, alone, name, tolerance):
    one, two = alone[0](name), both[0][0][name]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=tolerance)
    for key, weight in one["weights"].items():
        np.testing.assert_allclose(two["weights"][key], weight, atol=10 * tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_both_processes_have_the_same_weights_to_the_last_bit(both, name):
    first, second = (process[name]["weights"] for process in both[0])
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", EXACT)
def test_each_training_user_is_seen_once_an_epoch_in_the_batches_of_one_process(both, alone, name):
    one, (first, second) = alone[0](name), (process[name] for process in both[0])
    steps = [a + b for a, b in zip(first["trained"], second["trained"])]
    assert len(first["trained"]) == len(second["trained"])
    assert steps == one["trained"]
    per_epoch = len(steps) // len(one["losses"])
    for epoch in range(len(one["losses"])):
        users = chain.from_iterable(steps[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(users) == sorted(one["training users"])
    assert sum(map(len, second["trained"])) > 0.4 * sum(map(len, one["trained"]))


@pytest.mark.parametrize("name", [name for name in RUNS if name != "sampled candidates"])
def test_each_held_out_user_is_ranked_for_once(both, name):
    first, second = (process[name] for process in both[0])
    assert sorted(first["ranked"] + second["ranked"]) == sorted(first["held-out users"])
    if name.endswith("one test user"):
        assert len(first["held-out users"]) == 1
    else:
        assert min(len(first["ranked"]), len(second["ranked"])) > 0.3 * len(first["held-out users"])


def test_the_odd_sizes_are_odd(both):
    first, second = (process["a last batch of one"]["trained"] for process in both[0])
    assert sorted((len(first[1]), len(second[1]))) == [0, 1]


def test_stopping_early_is_decided_alike(both, alone):
    epochs = [len(process["stopping early"]["losses"]) for process in both[0]]
    assert epochs == [len(alone[0]("stopping early")["losses"])] * 2
    assert epochs[0] < 40


def test_only_the_first_process_writes(both):
    results, (first, second) = both
    assert list(second.iterdir()) == []
    written = {path.name for path in first.iterdir()}
    assert {"saved", "log_tensorboard", "users.csv"} <= written
    saved = list((first / "saved").glob("*/*.pth"))
    # A model each; and the data set and the dataloaders of one run.
    assert len(saved) == len(RUNS) + len(STOPPED) + 2
    assert all(run["logged to wandb"] > 0 for run in results[0].values())
    assert all(run["logged to wandb"] == 0 for run in results[1].values())


def test_the_metrics_of_each_user(both, alone):
    alone[0]("single precision")
    ours, theirs = (pd.read_csv(folder / "users.csv") for folder in (both[1][0], alone[1]))
    assert ours["user_id"].tolist() == theirs["user_id"].tolist()
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-6, rtol=0)


def test_the_saved_model_is_that_of_one_process(both):
    path = next((both[1][0] / "saved" / "0").glob("Vamp-*.pth"))
    state = torch.load(path, weights_only=True)
    assert not {"world_size", "port", "offset", "local_rank"} & state["config"].keys()
    best = both[0][1]["one level"]["weights"]
    assert all(np.array_equal(state["state_dict"][key], best[key]) for key in best)


def test_alone_nothing_is_exchanged():
    tensor = torch.arange(3.0)
    distributed.sum_up([tensor])
    distributed.copy_from_first([tensor])
    assert distributed.gather_rows(tensor) is tensor
    assert torch.equal(tensor, torch.arange(3.0))
    assert distributed.from_first({"a": 1}) == {"a": 1}
    assert (distributed.count(), distributed.is_first(), distributed.part(5)) == (1, True, None)


def test_other_data_than_the_first_processs(monkeypatch):
    monkeypatch.setattr(distributed, "_group", distributed._Group(1, 2, torch.device("cpu")))
    monkeypatch.setattr(distributed, "from_first", lambda value: "theirs")
    distributed.agree("theirs", "")
    with pytest.raises(ValueError, match="process 1 of 2 differs"):
        distributed.agree("ours", "process {rank} of {count} differs")


def test_the_digest_of_data_sees_users_items_and_what_is_shown(tiny_settings):
    def digest(**changes):
        settings = {**tiny_settings, **SG, "log_wandb": False, **changes}
        _, loaders, model, _ = build("Vamp", "tiny", settings)
        return digest_of_training(loaders[0]._dataset, model._histories)

    first = digest()
    assert digest(epochs=9) == first
    assert digest(split_seed=5) != first
    shown = {**SG["eval_args"], "fold_in_ratio": 0.5}
    assert digest(eval_args=shown) != first


def test_cores_are_shared_unless_threads_are_given(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    distributed.share_processor(3)
    distributed.share_processor(9)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    distributed.share_processor(2)
    assert asked == [2, 1]
