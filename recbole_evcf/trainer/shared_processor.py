"""Notices that other programs take the cores on which several threads train.

A step ends with its slowest thread. One that shares its core holds up all others, which meanwhile
wait at full speed: their processor time looks well used. What tells is the time that others take.
"""

import os
import time
from dataclasses import dataclass

import psutil
import torch

# The processor's clocks are coarse, and every system has a little to do.
SECONDS = 1.0
SLACK = 0.4
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Clocks:
    """Seconds: ``wall``, and what this process (``own``) and all (``busy``) took of ``cores``."""

    wall: float
    own: float
    busy: float
    cores: int


def clocks() -> Clocks:
    """Read the clocks of the cores on which this process may run."""
    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = [core for number, core in enumerate(cores) if number in allowed]
    busy = sum(getattr(core, kind, 0.0) for core in cores for kind in BUSY)
    return Clocks(time.monotonic(), time.process_time(), busy, len(cores))


class SharedProcessor:
    """Watches the time since it was made, or since it last answered."""

    def __init__(self) -> None:
        self._last = clocks()

    def advice(self) -> str | None:
        """A sentence if others took cores that the threads need; None too after less than
        ``SECONDS``."""
        last, now, threads = self._last, clocks(), torch.get_num_threads()
        seconds = now.wall - last.wall
        if seconds < SECONDS:
            return None
        self._last = now
        others = (now.busy - last.busy - (now.own - last.own)) / seconds
        if threads == 1 or others < SLACK or threads + others < now.cores + SLACK:
            return None
        fewer = max(min(round(now.cores - others), threads - 1), 1)
        return (
            f"Other programs take {others:.1f} of the {now.cores} cores, and {threads} threads "
            f"wait for the slowest: while that lasts, torch_threads: {fewer} is faster."
        )
