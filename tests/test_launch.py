"""Processes that are watched: how they end, and how they find the other machines."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
import torch.distributed as dist

from recbole_evcf import cli, launch
from recbole_evcf.launch import Layout
from several import act, free_port

RUN = [sys.executable, "-c", "import sys; from recbole_evcf.cli import main; sys.exit(main())"]

MISTAKES = [
    ({"nproc": 0}, "nproc must be"),
    ({"nproc": 3, "world_size": 2}, "more than world_size=2"),
    ({"world_size": 0}, "more than world_size=0"),
    ({"nproc": 2, "world_size": 4, "group_offset": 3}, "group_offset=3 does not fit"),
    ({"nproc": 2, "group_offset": -1}, "group_offset=-1 does not fit"),
    ({"nproc": 2, "port": "http"}, "port must be"),
    ({"nproc": 2, "port": "70000"}, "port must be"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_numbers_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        Layout.checked(**given)


def layout(nproc=2, world_size=2, group_offset=0, port=None):
    return Layout.checked(nproc, world_size, group_offset, "127.0.0.1", port or free_port())


def test_a_port_in_use(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["run", "--nproc=2", "--ip=127.0.0.1", f"--port={port}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"port={port}" in error
    assert "free port" in error


@pytest.mark.parametrize(
    ("ip", "message"),
    [
        # An address kept for documentation: no machine has it.
        ("192.0.2.1", "the machine's own address"),
        ("no.such.host.invalid", "no address that can be found"),
    ],
)
def test_an_address_that_is_not_this_machines(ip, message, capsys):
    assert cli.main(["run", "--nproc=2", f"--ip={ip}", f"--port={free_port()}"]) == 2
    assert message in capsys.readouterr().err


def test_a_first_machine_that_does_not_answer(capsys, monkeypatch):
    monkeypatch.setattr(launch, "START_LIMIT", 0.1)
    words = ["--world_size=2", "--group_offset=1", "--ip=127.0.0.1", f"--port={free_port()}"]
    assert cli.main(["run", *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Waiting for the first machine")
    assert "did not answer" in lines[1]


def test_a_second_machine_that_does_not_come(capsys, monkeypatch):
    monkeypatch.setattr(launch, "START_LIMIT", 0.1)
    words = ["--world_size=2", "--ip=127.0.0.1", f"--port={free_port()}"]
    assert cli.main(["run", *words]) == 1
    assert "only 1 of 2 processes have come" in capsys.readouterr().err


def on_two_machines(what, first=None, second=None):
    """Launch on two "machines", two threads of this process; what each returned or raised."""
    port, ended = free_port(), [None, None]

    def machine(number, settings):
        try:
            ended[number] = launch.launch(
                act, (what,), layout(1, 2, number, port), settings or {}, tell=lambda line: None
            )
        except Exception as error:
            ended[number] = error

    threads = [
        threading.Thread(target=machine, args=(number, settings))
        for number, settings in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    return ended


def test_settings_that_differ_between_machines_are_named_before_anything_starts():
    first, second = on_two_machines("result", {"seed": 1, "epochs": 3}, {"seed": 2, "epochs": 3})
    assert isinstance(second, ValueError)
    assert str(second).startswith("seed is 2 here and 1 on the first machine")
    assert isinstance(first, ConnectionError)
    assert "seed is 2" in str(first)


def test_a_killed_process_ends_the_other_machine_too():
    start = time.monotonic()
    first, second = on_two_machines("killed")
    assert isinstance(second, ChildProcessError)
    assert str(second).startswith("process 1 of 2 was ended by signal 9")
    assert isinstance(first, ConnectionError)
    assert "on another machine, process 1 of 2 was ended by signal 9" in str(first)
    assert time.monotonic() - start < 300


def test_a_mistake_on_one_machine_is_what_the_other_reports(monkeypatch):
    # Where processes start slowly, contact is lost long before the mistake is made.
    monkeypatch.setattr(launch, "FAREWELL", 100.0)
    first, second = on_two_machines("cut off")
    assert isinstance(first, ValueError)
    assert str(first) == "the reason"
    assert isinstance(second, ConnectionError)
    assert str(second) == "on another machine, the reason"


def test_a_machine_that_is_gone_is_missed(monkeypatch):
    machines = launch._Machines(layout(1, 2), lambda line: None)
    machines.store = launch._store(machines.layout, listens=True)
    monkeypatch.setattr(launch, "LOST_AFTER", 0.0)
    machines.others = {1: (b"", time.monotonic())}
    machines.store.set("alive/1", "7")
    assert machines.look() is None
    machines.last_beat = 0.0
    error = machines.look()
    assert isinstance(error, ConnectionError)
    assert "the machine of process 1 has not been heard of" in str(error)


@pytest.fixture
def silent_first():
    """A function that starts a first machine of two, and one that stops it without a word."""
    port = free_port()
    arguments = (act, ("wait",), layout(1, 2, 0, port), {})
    first = get_context("spawn").Process(target=launch.launch, args=arguments)
    first.start()

    def fall_silent():
        # As soon as both machines watch over each other.
        store = dist.TCPStore("127.0.0.1", port, is_master=False)
        store.wait(["alive/0", "alive/1"])
        processes[:] = [psutil.Process(first.pid), *psutil.Process(first.pid).children()]
        for process in processes:
            process.suspend()

    processes = []
    yield port, fall_silent
    for process in processes or [first]:
        process.kill()
    first.join()


def test_a_first_machine_that_falls_silent_is_missed(silent_first, monkeypatch):
    port, fall_silent = silent_first
    arguments = (act, ("wait",), layout(1, 2, 1, port), {}, lambda line: None)
    second = launch._in_thread(lambda: launch.launch(*arguments))
    fall_silent()
    monkeypatch.setattr(launch, "LOST_AFTER", 1.0)
    error = second.exception(timeout=30)
    assert isinstance(error, ConnectionError)
    assert str(error) == f"there is no contact to the first machine at 127.0.0.1:{port}."


class _SilentStore:
    """As the client of a first machine that is gone without a word."""

    def set(self, *given):
        threading.Event().wait()

    check = get = add = set


def error_in_time(action):
    """What it raises, if anything; it may be one that does not return."""
    return launch._in_thread(action).exception(timeout=30)


@pytest.mark.parametrize("last", ["end", "finish", "meet"])
def test_a_silent_first_machine_is_not_waited_for(last, monkeypatch):
    monkeypatch.setattr(launch, "FAREWELL", 0.1)
    monkeypatch.setattr(launch, "LOST_AFTER", 0.1)
    machines = launch._Machines(layout(1, 2, 1), lambda line: None)
    machines.store, machines.others = _SilentStore(), {0: (b"", time.monotonic())}
    monkeypatch.setattr(launch, "_found_store", lambda *given: machines.store)
    if last == "meet":
        assert "no contact to the first machine" in str(error_in_time(lambda: machines.meet({})))
    elif last == "end":
        assert error_in_time(lambda: machines.end(ValueError("the reason"))) is None
    else:
        assert error_in_time(machines.finish) is None


def test_a_first_machine_that_is_silent_from_the_start(monkeypatch):
    monkeypatch.setattr(launch, "START_LIMIT", 0.1)
    monkeypatch.setattr(launch, "LOST_AFTER", 0.2)
    with socket.socket() as first:
        # Its kernel takes connections; it does not.
        first.bind(("127.0.0.1", 0))
        first.listen()
        machines = launch._Machines(layout(1, 2, 1, first.getsockname()[1]), lambda line: None)
        assert "did not answer" in str(error_in_time(lambda: machines.meet({})))


def test_two_machines_with_the_same_number():
    machines = [launch._Machines(layout(1, 2, port=free_port()), print) for _ in range(2)]
    machines[0].store = machines[1].store = launch._store(machines[0].layout, listens=True)
    # The other machine, process 1 of 2, is there already.
    machines[0].store.add("joined", 1)
    machines[0].store.set("machine/1", "1")
    machines[0]._register({})
    with pytest.raises(ValueError, match="another machine has process 0"):
        machines[1]._register({})


def test_a_mistake_is_raised_and_not_the_contact_that_is_lost_by_it():
    with pytest.raises(ValueError, match=r"^the reason$") as caught:
        launch.launch(act, ("cut off",), layout(), {})
    # Where it comes from.
    assert "several.py" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "ended with exit code 3"), (-9, "signal 9 (SIGKILL; most"), (-15, "signal 15 (SIGTERM)")],
)
def test_how_a_process_ended_in_words(code, words):
    assert words in launch._end_of(code)


@pytest.fixture
def command(tiny, tmp_path):
    settings = {**tiny, "topk": [5, 10], "standard_error": True, "metric_decimal_place": 10}
    path = tmp_path / "settings.yaml"
    path.write_text(json.dumps({**settings, "dataset": "tiny", "model": "Vamp"}), encoding="utf-8")

    def start(folder, *words):
        (tmp_path / folder).mkdir()
        return subprocess.Popen(
            [*RUN, "run", f"--config_files={path}", "--result_file=result.json", *words],
            cwd=tmp_path / folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_two_machines_train_and_the_first_has_the_results(command, tmp_path):
    words = ["--nproc=1", "--world_size=2", "--ip=127.0.0.1", f"--port={free_port()}"]
    second = command("second", *words, "--group_offset=1")
    first = command("first", *words, "--group_offset=0", "--per_user_file=users.csv")
    out, err = first.communicate(timeout=500)
    other_out, other_err = second.communicate(timeout=500)
    assert (first.returncode, second.returncode) == (0, 0), err + other_err
    assert out.count("ndcg@10") == 1
    assert other_out == ""
    assert other_err.splitlines()[-1] == "Done; the results are on the first machine."
    assert list((tmp_path / "second").iterdir()) == []
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == ["log", "log_tensorboard", "result.json", "saved", "users.csv"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pytest"])
        (tmp_path / "alone").mkdir()
        patch.chdir(tmp_path / "alone")
        files = f"--config_files={tmp_path / 'settings.yaml'}"
        assert cli.main(["run", files, "--result_file=result.json"]) == 0
    one, two = (
        json.loads((tmp_path / folder / "result.json").read_text(encoding="utf-8"))
        for folder in ("alone", "first")
    )
    for phase in ("best_valid_result", "test_result"):
        assert two[phase] == pytest.approx(one[phase], abs=1e-6)


def test_a_first_machine_with_more_items_is_told_apart(command, tiny, tmp_path):
    more = tmp_path / "more" / "tiny" / "tiny.inter"
    more.parent.mkdir(parents=True)
    inter = Path(tiny["data_path"], "tiny", "tiny.inter").read_text(encoding="utf-8")
    more.write_text(f"{inter}u0\tone more\t1\n", encoding="utf-8")
    words = ["--nproc=1", "--world_size=2", "--ip=127.0.0.1", f"--port={free_port()}"]
    second = command("second", *words, "--group_offset=1")
    first = command("first", *words, "--group_offset=0", f"--data_path={more.parents[1]}")
    (_, told), (_, err) = first.communicate(timeout=500), second.communicate(timeout=500)
    assert (first.returncode, second.returncode) == (1, 2), told + err
    reason = "Process 1 of 2 (they count from 0) does not train on the data of the first: "
    assert err.splitlines()[-1].startswith(f"recbole-evcf: error: {reason}")
    assert told.splitlines()[-1].startswith(f"recbole-evcf: error: on another machine, {reason}")


def children(parent, number):
    """The processes that a command has started, as soon as they all train."""
    end = time.monotonic() + 400
    while time.monotonic() < end:
        found = [
            child
            for child in psutil.Process(parent.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        if len(found) == number and list(Path(parent.folder).glob("saved/*.pth")):
            return found
        time.sleep(0.2)
    raise AssertionError("they do not train")


def ended(process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("end", ["kill", "interrupt", "kill the parent"])
def test_the_end_of_one_ends_all(end, command, tmp_path):
    words = ["--nproc=2", f"--port={free_port()}", "--epochs=100000", "--stopping_step=100000"]
    parent = command("run", *words)
    parent.folder = tmp_path / "run"
    started = children(parent, 2)
    if end == "kill":
        started[1].kill()
    elif end == "interrupt":
        # As a terminal does, to all.
        for process in (*started, parent):
            os.kill(process.pid, signal.SIGINT)
    else:
        parent.kill()
    start = time.monotonic()
    out, err = parent.communicate(timeout=500)
    assert time.monotonic() - start < 120
    assert out == ""
    assert all(map(ended, started))
    expected = {"kill": (1, 1), "interrupt": (130, 1), "kill the parent": (-9, 0)}
    # Beside our line, PyTorch may say how it was cut off.
    lines = [line for line in err.splitlines() if line.startswith("recbole-evcf: ")]
    assert (parent.returncode, len(lines)) == expected[end], err
    if end == "kill":
        assert lines[0].startswith("recbole-evcf: error: process ")
        assert "of 2 was ended by signal 9 (SIGKILL; most often the memory was used up)." in err
