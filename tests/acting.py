"""What a process does in the tests of the runner; light, since each process imports it."""

import os
import signal
import time
from multiprocessing import get_context


def act(request: dict, settings: dict, path: str, connection) -> None:
    """In the place of ``work``: what the name in the settings says."""
    name = request["settings"]["name"]
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "gone":
        os._exit(3)
    if name == "wrong":
        connection.send("ValueError: no such thing")
        os._exit(1)
    open(f"{path}.done", "w").close()
    connection.send(None)


def start_a_run() -> None:
    """Start a run as a command does, say which process it is once it runs, and wait for it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs,))
    process.start()
    print(ours.recv(), flush=True)
    process.join()


def _run(connection) -> None:
    from recbole_evcf.comparison.worker import _start_and_end_as_a_command

    _start_and_end_as_a_command()
    connection.send(os.getpid())
    time.sleep(600)
