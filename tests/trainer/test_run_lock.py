"""Who may write: one process at a time, and the next as soon as it has gone."""

import os
import subprocess
import sys
import threading

import pytest

from recbole_evcf.trainer import run_lock

HOLD = """
import sys
from recbole_evcf.trainer.run_lock import folder_held
with folder_held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere():
    """Another process that writes to the folder ``out``, until it is killed."""
    command = [sys.executable, "-c", HOLD, "out"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_folder_is_one_commands_until_its_process_has_gone(held_elsewhere):
    message = "output folder out is in use by another command"
    with pytest.raises(ValueError, match=message), run_lock.folder_held("out"):
        pytest.fail("it was another's")
    # Killed, it has no chance to remove its lock.
    held_elsewhere.kill()
    held_elsewhere.wait()
    assert os.listdir("out") == ["results.lock"]
    with run_lock.folder_held("out"):
        assert run_lock.holds("out/results")
    assert os.listdir("out") == []


def test_a_folder_is_one_commands_within_a_process_too():
    refused = pytest.raises(ValueError, match="in use by another command")
    with run_lock.folder_held("out"), refused, run_lock.folder_held(os.path.abspath("out")):
        pytest.fail("it was another's")


def test_a_folder_that_cannot_be_written_is_named():
    message = r"^The output folder /dev/null/out cannot be written \(Not a directory\)"
    with pytest.raises(ValueError, match=message), run_lock.folder_held("/dev/null/out"):
        pytest.fail("there is no such folder")


def test_a_run_may_be_taken_again_by_its_process_and_released_by_any_thread():
    assert run_lock.take("model.pth")
    assert run_lock.take("model.pth")
    thread = threading.Thread(target=run_lock.release, args=["model.pth"])
    thread.start()
    thread.join()
    assert not run_lock.holds("model.pth")
    assert os.listdir() == []
