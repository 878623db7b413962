"""A run that is killed again and again, at any moment, ends as one that is left alone.

As a program this file does an undisturbed run in the folder ``whole``, then runs with ``--resume``
in ``killed-0``, ``killed-1``, ... until it has killed often enough; each is a fork of one process
that has imported everything. It takes the words of ``recbole-evcf run``, and prints as JSON how
many runs it finished and at which epochs they resumed.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import torch

from recbole_evcf import cli

KILLS = 24


def result(folder: Path) -> dict:
    content = json.loads((folder / "result.json").read_text())
    del content["model_file"]
    return content


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def start(folder: str, words: list[str]) -> int:
    """Fork a run; the process id of the child."""
    child = os.fork()
    if child:
        return child
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = cli.main(["run", *words, "--result_file=result.json"])
    os._exit(code)


def wait(child: int, seconds: float) -> bool:
    """Kill a child after some time; whether it had ended by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                sys.exit(f"a run ended with status {status}")
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main() -> None:
    # The first optimiser of a process imports it, which takes longer than the run.
    import_module("torch._dynamo")
    # It sleeps for a second to measure the processor's load.
    quick_start = import_module("recbole.quick_start.quick_start")
    quick_start.get_environment = lambda config: SimpleNamespace(draw=str)
    moments, words = random.Random(5), sys.argv[1:]
    os.mkdir("whole")
    begin = time.monotonic()
    wait(start("whole", words), 600)
    length = time.monotonic() - begin
    kills = finished = 0
    while kills < KILLS:
        folder = f"killed-{finished}"
        os.mkdir(folder)
        # Not the whole length at first: a run that goes on has less to do. Then more, should the
        # machine have become so slow that no run gets as far as training.
        limit = 0.6 * length
        while not wait(start(folder, [*words, "--resume"]), moments.uniform(0, limit)):
            kills += 1
            limit *= 1.1
        finished += 1
    output = "".join(Path(f"killed-{number}", "output").read_text() for number in range(finished))
    resumed = re.findall(r"Resuming after epoch (\d+)", output)
    print(json.dumps({"finished": finished, "resumed": resumed}))


def test_kills_at_random_moments_change_nothing(tiny, tmp_path):
    settings = {**tiny, "epochs": 30, "warmup_epochs": 20, "state": "info"}
    (tmp_path / "tiny.yaml").write_text(json.dumps(settings), encoding="utf-8")
    words = ["--model=GatedHVamp", "--dataset=tiny", f"--config_files={tmp_path / 'tiny.yaml'}"]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        cwd=tmp_path,
        # A fork does not carry the threads of OpenMP along.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logged = json.loads(done.stdout)
    # They were killed in the midst of training, and that was not in vain.
    assert len(set(logged["resumed"])) > 3
    expected = result(tmp_path / "whole")
    (path,) = (tmp_path / "whole" / "saved").glob("*.pth")
    whole = torch.load(path, weights_only=True)
    for number in range(logged["finished"]):
        folder = tmp_path / f"killed-{number}"
        assert result(folder) == expected
        newest = max((folder / "saved").glob("*.pth"), key=os.path.getmtime)
        model = torch.load(newest, weights_only=True)
        assert model["epoch"] == whole["epoch"]
        assert same(model["state_dict"], whole["state_dict"])
        assert same(model["optimizer"], whole["optimizer"])
        assert same(model["training"]["progress"], whole["training"]["progress"])
        assert not list((folder / "saved").glob(f"{newest.name}*.resume"))


if __name__ == "__main__":
    main()
