"""Two processes do what one does: numbers, users, and files; how they start, end and restart."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from itertools import chain, product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from build import RS, build
from conftest import make_tiny
from operations import Network, exchanged
from recbole_evcf import cli, distributed
from recbole_evcf.data.identity import digest_of_part
from workers import free_port, train, train_all

SG = {"eval_args": {**RS, "split": {"SG": [0.5, 0.2, 0.3]}}}
SAMPLED = {"eval_args": {**RS, "split": {"RS": [0.6, 0.2, 0.2]}, "mode": "uni20"}}
ONE_TEST_USER = {"eval_args": {**RS, "split": {"SG": [-1, 4, 1]}}}
DECAY = {"weight_decay": 0.01}
DESCENT = {"learner": "sgd", "learning_rate": 0.05}
LARGEST = {"max_norm": 0.01, "norm_type": "inf"}
GAUC = {"metrics": ["GAUC", "NDCG"], "valid_metric": "NDCG@10"}
# By name: model and settings.
RUNS = {
    "one level": ("Vamp", {}),
    "two levels": ("GatedHVamp", {"train_batch_size": 17}),
    "two levels, deep, by users": ("HVamp", {**SG, "mlp_hidden_size": [16, 12]}),
    "bernoulli, by users": ("GatedVamp", {**SG, "likelihood": "bernoulli"}),
    "standard normal": ("GatedMultiVAE", SG),
    "linear path": ("GatedHVampLinear", {**SG, "implicit_slim_interval": 2}),
    # Steps in proportion to the gradient: a wrong scale would show, as Adam would hide it.
    "gradient descent": ("Vamp", DESCENT),
    "clipped": ("Vamp", {"learner": "adam", "clip_grad_norm": {"max_norm": 0.5}, **DECAY}),
    "clipped by the largest": ("Vamp", {"clip_grad_norm": LARGEST, **DESCENT}),
    "scaled": ("GatedVamp", {"enable_scaler": True}),
    "a last batch of one": ("Vamp", {"train_batch_size": 59, "learner": "sgd"}),
    "one test user": ("GatedHVamp", {**ONE_TEST_USER, "seed": 3}),
    "fewer pseudo-inputs": ("GatedHVamp", {"n_pseudo_inputs": 1, "learner": "sgd"}),
    "starting from data": ("Vamp", {"pseudo_inputs_init": "data"}),
    "sparse pseudo-inputs": ("GatedHVamp", {"pseudo_input_size": 5}),
    "sampled candidates": ("Vamp", SAMPLED),
    "stopping early": ("Vamp", {"epochs": 40, "stopping_step": 2, "warmup_epochs": 0}),
    "other metrics": ("Vamp", GAUC),
    "other metrics, one test user": ("Vamp", {**ONE_TEST_USER, **GAUC}),
    "single precision": ("GatedHVamp", {"per_user_file": "users.csv", **SG}),
    "bf16": ("GatedHVamp", {"enable_amp": True, "learner": "sgd"}),
}
# The tolerances of runs in less than double precision.
ROUNDED = {"single precision": 1e-5, "bf16": 2e-3}
# Two processes are stopped after the epoch, of which the second has no file, and go on.
LONGER = {**SG, "epochs": 5, "stopping_step": 9}
STOPPED = {"stopped": ("GatedHVamp", {**LONGER, "stop_after": 1})}
# One goes on for the other.
HANDED_ON = {
    "from one": ("GatedHVamp", {**LONGER, "resume": True}),
    "to one": ("GatedHVamp", {**LONGER, "stop_after": 1, "resume": False}),
}


@pytest.fixture(scope="module")
def tiny_settings(tmp_path_factory):
    metrics = {"metrics": ["NDCG", "Recall", "MRR"], "topk": [5, 10], "standard_error": True}
    more = {"epochs": 3, "warmup_epochs": 2, "metric_decimal_place": 12, "log_wandb": True}
    return {**make_tiny(tmp_path_factory.mktemp("data")), **metrics, **more}


def dtype(name):
    return "float32" if name in ROUNDED else "float64"


@pytest.fixture(scope="module")
def both(tiny_settings, tmp_path_factory):
    """What two processes noted of each run, and their folders."""
    folders = [tmp_path_factory.mktemp(f"process{rank}") for rank in range(2)]
    runs = {
        name: (model, {**tiny_settings, **settings, "checkpoint_dir": f"saved/{name}"}, dtype(name))
        for name, (model, settings) in {**RUNS, **STOPPED, **HANDED_ON}.items()
    }
    before = {"checkpoint_dir": f"{folders[0]}/saved/from one", "stop_after": 1, "resume": False}
    train("GatedHVamp", {**tiny_settings, **LONGER, **before}, "float64")
    port = free_port()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = [
            pool.submit(train_all, rank, 2, port, str(folder), runs)
            for rank, folder in enumerate(folders)
        ]
        return [each.result() for each in found], folders


@pytest.fixture(scope="module")
def alone(tiny_settings, tmp_path_factory):
    """A function that gives what one process notes of a run, and its folder."""
    folder = tmp_path_factory.mktemp("alone")

    @functools.cache
    def result(name):
        model, settings = RUNS[name]
        place = {"checkpoint_dir": str(folder / name)}
        if "per_user_file" in settings:
            place["per_user_file"] = str(folder / "users.csv")
        return train(model, {**tiny_settings, **settings, **place}, dtype(name))

    return result, folder


@pytest.mark.parametrize("name", RUNS)
def test_losses_weights_and_metrics_are_those_of_one_process(both, alone, name):
    one, (first, second) = alone[0](name), (process[name] for process in both[0])
    rounding, exact = ROUNDED.get(name, 0), name not in ROUNDED
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=max(rounding, 1e-10))
    np.testing.assert_array_equal(first["losses"], second["losses"])
    for key, weight in one["weights"].items():
        tolerance = {"rtol": 1e-6, "atol": 1e-9} if exact else {"atol": 10 * rounding}
        np.testing.assert_allclose(first["weights"][key], weight, **tolerance)
        # To the last bit.
        np.testing.assert_array_equal(first["weights"][key], second["weights"][key])
    for phase in ("valid", "test") if exact else ():
        for two in (first, second):
            assert two[phase] == pytest.approx(one[phase], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", RUNS)
def test_each_user_is_trained_on_and_ranked_for_once(both, alone, name):
    """In the batches of one process, of which both have their share."""
    one, (first, second) = alone[0](name), (process[name] for process in both[0])
    steps = [a + b for a, b in zip(first["trained"], second["trained"], strict=True)]
    assert steps == one["trained"]
    per_epoch = len(steps) // len(one["losses"])
    for epoch in range(len(one["losses"])):
        users = chain.from_iterable(steps[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(users) == sorted(one["training users"])
    assert sum(map(len, second["trained"])) > 0.4 * sum(map(len, one["trained"]))
    if name != "sampled candidates":
        held_out = first["held-out users"]
        assert sorted(first["ranked"] + second["ranked"]) == sorted(held_out)
        assert (len(held_out) == 1) == name.endswith("one test user")
        assert min(len(first["ranked"]), len(second["ranked"])) >= 0.3 * (len(held_out) - 1)


def test_a_resumed_run_of_two_is_one_that_was_never_stopped(both, tiny_settings, tmp_path):
    """Also where one process trained before, or trains after that."""
    settings = {**tiny_settings, **LONGER, "checkpoint_dir": str(tmp_path)}
    one = train("GatedHVamp", settings, "float64")
    place = {"checkpoint_dir": f"{both[1][0]}/saved/to one", "resume": True}
    resumed = [process[name] for name in ("stopped", "from one") for process in both[0]]
    resumed.append(train("GatedHVamp", {**tiny_settings, **LONGER, **place}, "float64"))
    for two in resumed:
        np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-10)
        for phase in ("valid", "test"):
            assert two[phase] == pytest.approx(one[phase], abs=1e-9)
        assert 0 < len(two["trained"]) < len(one["trained"])


def test_the_pseudo_inputs_are_divided(both, alone):
    for name, per_process in {"two levels": (3, 4), "fewer pseudo-inputs": (0, 1)}.items():
        assert [process[name]["encoded"] for process in both[0]] == [{k} for k in per_process]
        assert alone[0](name)["encoded"] == {sum(per_process)}


def test_what_a_step_exchanges(both, alone):
    """As the benchmarks count it."""
    found = both[0][1]["two levels"]
    weights = [weight.size for name, weight in found["weights"].items() if "warmup" not in name]
    network = Network(40, (16,), 8, True, 2, 7)
    assert found["sent"] == exchanged(network, weights, 2, np.float64().nbytes)
    assert alone[0]("two levels")["sent"] == 0


def test_a_last_batch_of_one_and_stopping_early_happen(both, alone):
    first, second = (process["a last batch of one"]["trained"] for process in both[0])
    assert sorted((len(first[1]), len(second[1]))) == [0, 1]
    epochs = len(alone[0]("stopping early")["losses"])
    assert [len(process["stopping early"]["losses"]) for process in both[0]] == [epochs] * 2
    assert epochs < 40


def test_only_the_first_process_writes(both, alone):
    results, (folder, second) = both
    assert list(second.iterdir()) == []
    assert {"saved", "log_tensorboard", "users.csv"} <= {path.name for path in folder.iterdir()}
    assert len(list(folder.glob("saved/*/*.pth"))) == len(RUNS) + len(STOPPED) + len(HANDED_ON)
    for process, run in product((0, 1), RUNS):
        assert (results[process][run]["logged to wandb"] > 0) == (process == 0)
    # What it writes is that of one process.
    alone[0]("single precision")
    ours, theirs = (pd.read_csv(each / "users.csv") for each in (folder, alone[1]))
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-6, rtol=0)
    state = torch.load(next(folder.glob("saved/one level/*.pth")), weights_only=True)
    assert not {"world_size", "port", "offset"} & state["config"].keys()
    for key, weight in results[1]["one level"]["weights"].items():
        assert np.array_equal(state["state_dict"][key], weight)


def test_other_data_and_settings_than_the_first_processs(monkeypatch):
    monkeypatch.setattr(distributed, "_group", distributed._Group(1, 2))
    monkeypatch.setattr(distributed, "from_first", lambda value: {"epochs": 3, "seed": 1})
    distributed.agree({"epochs": 3, "seed": 1}, "")
    with pytest.raises(ValueError, match="process 1 of 2 differs"):
        distributed.agree("ours", "process {rank} of {count} differs")
    distributed.agree_on({"epochs": 3, "seed": 1})
    with pytest.raises(ValueError, match=r"^seed is 2 here and 1 on the first machine"):
        distributed.agree_on({"epochs": 3, "seed": 2})


@pytest.mark.parametrize("forbidden", [False, True])
def test_memory_is_shared_unless_that_is_forbidden(forbidden, monkeypatch):
    """All gather as often: none waits for another."""
    gathered = []

    def gather(tensor):
        gathered.append(tensor)
        return torch.stack([tensor, tensor])

    def refused(name):
        raise PermissionError

    monkeypatch.setattr(distributed, "_group", distributed._Group(0, 2, on_one_machine=True))
    monkeypatch.setattr(distributed, "from_first", lambda value: value)
    monkeypatch.setattr(distributed, "gather", gather)
    if forbidden:
        monkeypatch.setattr(os, "memfd_create", refused)
    assert (distributed._shared_rows(3, torch.zeros(1)) is None) == forbidden
    assert len(gathered) == 2


def test_the_digest_of_data_sees_users_items_and_what_is_shown(tiny_settings):
    def digest(**changes):
        settings = {**tiny_settings, **SG, "log_wandb": False, **changes}
        _, loaders, model, _ = build("Vamp", "tiny", settings)
        return digest_of_part(loaders[0]._dataset, model._histories)

    first = digest()
    assert digest(epochs=9) == first
    assert digest(split_seed=5) != first
    shown = {**SG["eval_args"], "fold_in_ratio": 0.5}
    assert digest(eval_args=shown) != first


MISTAKES = [
    ({"nproc": 0}, "nproc must be"),
    ({"nproc": 3, "world_size": 2}, "group_offset=0 on are none of the world_size=2"),
    ({"nproc": 2, "world_size": 4, "group_offset": 3}, "group_offset=3 on are none"),
    ({"nproc": 2, "group_offset": -1}, "group_offset=-1 on are none"),
    ({"nproc": 2, "port": "http"}, "port must be"),
    ({"nproc": 2, "port": "70000"}, "port must be"),
    ({"nproc": 2, "port": "IN USE", "ip": "127.0.0.1"}, "Address already in use"),
    # An address kept for documentation: no machine has it.
    ({"nproc": 2, "ip": "192.0.2.1"}, "give the address of the first machine"),
    ({"nproc": 2, "ip": "no.host.invalid"}, "ip=no.host.invalid cannot be used"),
    ({"nproc": 1, "world_size": 2, "ip": "192.0.2.1"}, "ip=192.0.2.1 port=5678 cannot be used"),
    ({"max_restarts": -1}, "max_restarts must be"),
    ({"max_restarts": 1, "model": "WMF"}, "training of WMF cannot be resumed"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_a_mistake_in_the_processes_is_one_line(given, message, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = [f"--{key}={value}" for key, value in given.items()]
        words = [word.replace("IN USE", str(other.getsockname()[1])) for word in words]
        assert cli.main(["run", "--gpu_id=", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_runs_on_one_machine_meet_at_ports_of_their_own():
    keys = distributed.layout(2, -1, 0, "localhost", "")
    stores = [distributed._meeting_point(keys) for _ in range(2)]
    assert len({0, *(store.port for store in stores)}) == 3


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
MANY = {"SLURM_NNODES": "2", "SLURM_NODELIST": "gpu[07-09,12],cpu1", "SLURM_JOB_ID": "123456"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (TORCHRUN, (1, 2, 2, 4, "10.0.0.1", 29500)),
        ({**SRUN, **MANY, "SLURM_STEP_ID": "0"}, (1, 2, 2, 4, "gpu07", 23456)),
        ({**SRUN, "SLURM_LOCALID": "3", "MASTER_PORT": "12"}, (3, 0, 4, 4, "127.0.0.1", 12)),
        # A batch script, which is none of its tasks.
        ({**SRUN, **MANY}, None),
        ({**SRUN, "SLURM_NTASKS": "1"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
    ],
)
def test_who_was_started_from_outside(environment, expected, monkeypatch):
    environment = {**os.environ, **environment}
    monkeypatch.setattr(os, "environ", environment)
    names = ("local_rank", "offset", "nproc", "world_size", "ip", "port")
    assert distributed.from_environment() == (dict(zip(names, expected)) if expected else {})


def test_an_environment_that_is_incomplete(monkeypatch, refused):
    monkeypatch.setenv("RANK", "0")
    assert "MASTER_ADDR and MASTER_PORT must be too" in refused("run")


def meet(number, count, what, port, end):
    """What a process does that meets others and has little patience."""
    distributed.PATIENCE, distributed.GRACE = timedelta(seconds=2), 1.0
    try:
        keys = distributed.layout(1, count, number, "127.0.0.1", port)
        distributed.join({"local_rank": 0, **keys}, torch.device("cpu"))
        # From here on nobody waits for the store, which is gone with its machine.
        distributed.sum_up([torch.ones(1)])
        if what == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if what == "mistaken":
            raise ValueError("the reason")
        distributed.sum_up([torch.ones(1)])
    except Exception as error:
        error = distributed.explain(error)
        if what != "mistaken":
            end.send((type(error).__name__, str(error)))
    os._exit(0)


@pytest.mark.parametrize(
    ("processes", "kind", "message"),
    [
        ([(0, 2, "")], "ConnectionError", "process 0 of 2 lost contact"),
        ([(1, 2, "")], "ConnectionError", "process 1 of 2 lost contact"),
        ([(0, 2, ""), (1, 2, "stopped")], "ConnectionError", "process 0 of 2 lost contact"),
        ([(1, 2, ""), (0, 2, "stopped")], "ConnectionError", "process 1 of 2 lost contact"),
        ([(0, 2, ""), (1, 2, "mistaken")], "FailedElsewhere", "process 1 of 2: the reason"),
        ([(0, 2, ""), (1, 3, "")], "ValueError", "world_size is"),
        ([(1, 3, ""), (1, 3, ""), (0, 3, "")], "ValueError", "has process 1 of 3 already"),
    ],
)
def test_processes_that_do_not_meet_or_fall_silent(processes, kind, message):
    context, port = get_context("fork"), free_port()
    ours, theirs = context.Pipe()
    started = [context.Process(target=meet, args=(*each, port, theirs)) for each in processes]
    for process in started:
        process.start()
    assert ours.poll(60)
    found, sentence = ours.recv()
    for process in started:
        process.kill()
        process.join()
    assert found == kind
    assert message in sentence


OURS = [sys.executable, "-m", "recbole_evcf"]
TORCHRUN_2 = [*OURS[:2], "torch.distributed.run", "--standalone", "--nproc-per-node=2", *OURS[1:]]


@pytest.fixture(scope="module")
def start(tiny_settings, tmp_path_factory):
    """A function that starts a command on a file of settings, in a folder."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    changes = {"model": "Vamp", "dataset": "tiny", "epochs": 40, "stopping_step": 100}
    settings = {**tiny_settings, **changes, "log_wandb": False, "resumable": True}
    path.write_text(json.dumps(settings), encoding="utf-8")

    def start(folder, program, *words, **environment):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            [*program, "run", f"--config_files={path}", "--result_file=result.json", *words],
            **{"cwd": folder, "env": {**os.environ, **environment}},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        )

    return start


def trained(folder):
    """The metrics and weights of the run in a folder."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    weights = torch.load(folder / result["model_file"], weights_only=True)["state_dict"]
    return result["best_valid_result"], result["test_result"], weights


@pytest.fixture(scope="module")
def by_torchrun(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    command = start(folder, TORCHRUN_2)
    out, err = command.communicate(timeout=500)
    assert command.returncode == 0, err
    assert (out.count("ndcg@10"), err.count("recbole-evcf: ")) == (1, 0)
    return trained(folder)


def test_two_processes_that_srun_has_started(start, by_torchrun, tmp_path):
    common = {"SLURM_NTASKS": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    folders, commands = [tmp_path / "0", tmp_path / "1"], []
    for folder in folders:
        task = {**common, "SLURM_PROCID": folder.name, "SLURM_LOCALID": folder.name}
        commands.append(start(folder, OURS, "--per_user_file=users.csv", **task))
    ends = [command.communicate(timeout=500) for command in commands]
    assert [command.returncode for command in commands] == [0, 0], ends
    assert (ends[0][0].count("ndcg@10"), ends[1]) == (1, ("", ""))
    assert list(folders[1].iterdir()) == []
    assert trained(folders[0])[:2] == by_torchrun[:2]


def test_a_first_machine_with_more_items(start, tiny_settings, tmp_path):
    more = tmp_path / "tiny" / "tiny.inter"
    more.parent.mkdir()
    inter = Path(tiny_settings["data_path"], "tiny", "tiny.inter").read_text(encoding="utf-8")
    more.write_text(f"{inter}u0\tone more\t1\n", encoding="utf-8")
    words = ["--world_size=2", f"--port={free_port()}"]
    second = start(tmp_path, OURS, *words, "--group_offset=1")
    first = start(tmp_path, OURS, *words, f"--data_path={tmp_path}")
    (_, told), (_, err) = first.communicate(timeout=500), second.communicate(timeout=500)
    assert (first.returncode, second.returncode) == (1, 2), told + err
    reason = "Process 1 of 2 (they count from 0) does not train on the data of the first: "
    assert f"recbole-evcf: error: {reason}" in err
    assert f"recbole-evcf: error: another process failed: process 1 of 2: {reason}" in told


def training(folder, *commands):
    """The two processes that commands have started, as soon as they train."""
    end = time.monotonic() + 400
    while time.monotonic() < end and all(command.poll() is None for command in commands):
        parents = (psutil.Process(command.pid) for command in commands)
        children = (child for parent in parents for child in parent.children(recursive=True))
        found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(found) == 2 and list(folder.glob("saved/*.pth")):
            return found
        time.sleep(0.05)
    raise AssertionError(f"they do not train: {[command.communicate() for command in commands]}")


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        ("kill", 1, "error: process 1 of 2 was killed by SIGKILL; most often the memory"),
        ("interrupt", 130, "interrupted after epoch"),
        ("kill the parent", -9, None),
    ],
)
def test_the_end_of_one_ends_all(end, code, line, start, tmp_path):
    parent = start(tmp_path, OURS, "--nproc=2", f"--port={free_port()}", "--epochs=100000")
    started = training(tmp_path, parent)
    if end == "kill":
        max(started, key=lambda process: process.pid).kill()
    elif end == "interrupt":
        # As a terminal does, to all.
        for process in (*started, parent):
            os.kill(process.pid, signal.SIGINT)
    else:
        parent.kill()
    out, err = parent.communicate(timeout=120)
    assert (parent.returncode, out) == (code, "")
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left
    # Beside our line, PyTorch may say how it was cut off.
    lines = [text for text in err.splitlines() if text.startswith("recbole-evcf: ")]
    assert len(lines) == bool(line), err
    assert not line or lines[0].startswith(f"recbole-evcf: {line}")


def test_a_killed_process_is_started_again_and_nothing_differs(start, by_torchrun, tmp_path):
    """It is one of two machines."""
    words = ["--world_size=2", f"--port={free_port()}", "--max_restarts=1", "--resumable=True"]
    folders = first, second = tmp_path / "0", tmp_path / "1"
    words.append("--state=info")
    commands = [start(each, OURS, *words, f"--group_offset={each.name}") for each in folders]
    training(first, *commands)[1].kill()
    (out, err), ended = (command.communicate(timeout=500) for command in commands)
    assert [command.returncode for command in commands] == [0, 0], (err, ended)
    assert "Resuming after epoch" in err
    assert (out.count("ndcg@10"), ended[0], list(second.iterdir())) == (1, "", [])
    assert ended[1].endswith("Done; the results are on the first machine.\n")
    assert len(list(first.glob("saved/*"))) == 1
    for ours, theirs in zip(trained(first), by_torchrun):
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
