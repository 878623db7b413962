"""Runs that are killed: one process imports everything, and each run is a fork of it.

As a program it takes a JSON object: ``words`` of ``recbole-evcf run``, ``kills`` wanted, and the
``seed`` of their moments. It does an undisturbed run in the folder ``whole``, then runs with
``--resume`` in ``killed-0``, ``killed-1``, ... until it has killed often enough, and prints how
many runs it finished and at which epochs they went on.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from recbole_evcf import cli

__all__: list[str] = []


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
    asked = json.loads(sys.argv[1])
    # The first optimiser of a process imports it, which takes longer than the run.
    import_module("torch._dynamo")
    # It sleeps for a second to measure the processor's load.
    quick_start = import_module("recbole.quick_start.quick_start")
    quick_start.get_environment = lambda config: SimpleNamespace(draw=str)
    moments = random.Random(asked["seed"])
    os.mkdir("whole")
    begin = time.monotonic()
    wait(start("whole", asked["words"]), 600)
    length = time.monotonic() - begin
    kills = finished = 0
    while kills < asked["kills"]:
        folder = f"killed-{finished}"
        os.mkdir(folder)
        # Not the whole length at first: a run that goes on has less to do. Then more, should the
        # machine have become so slow that no run gets as far as training.
        limit = 0.6 * length
        while not wait(start(folder, [*asked["words"], "--resume"]), moments.uniform(0, limit)):
            kills += 1
            limit *= 1.1
        finished += 1
    texts = [Path(f"killed-{number}", "output").read_text() for number in range(finished)]
    went_on = [
        int(epoch) for text in texts for epoch in re.findall(r"Resuming after epoch (\d+)", text)
    ]
    print(json.dumps({"kills": kills, "finished": finished, "went_on": went_on}))


if __name__ == "__main__":
    main()
