"""What a process does in the tests of the runner; light, since each process imports it."""

from __future__ import annotations

import os
import signal

__all__ = ["act"]


def act(request: dict, settings: dict, paths: dict, connection) -> None:
    """In the place of ``work``: what the name in the settings says."""
    name = request["settings"]["name"]
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "gone":
        os._exit(3)
    if name == "wrong":
        connection.send("ValueError: no such thing")
        os._exit(1)
    open(paths["log"].replace(".log", ".done"), "w").close()
    connection.send(None)
