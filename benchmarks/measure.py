"""Cases measured side by side, each in a process of its own, in turn: A B C A B C ...

A case builds what it needs once and then repeats. Taking turns lets a drift of a noisy machine hit
all cases alike; a ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

WORKER = Path(__file__).with_name("worker.py")
# Of the machine's memory: what must stay free while a case runs, so that it is the case that ends.
SPARE_BYTES = 512 * 2**20
POLL_SECONDS = 0.05
# A first repetition that is shorter than this is not counted: it pays for caches and threads.
WARM_UP_SECONDS = 5.0


@dataclass(frozen=True)
class Case:
    """Something to be measured.

    Attributes:
        name: what it is called in messages and in the result.
        function: ``module:name`` of the function that builds it from ``spec`` and returns the
            function that is repeated, which returns a dict of results, or yields it as it grows.
        spec: its argument, of plain JSON values.
        repetitions: how often at most, or None: as often as the others.
    """

    name: str
    function: str
    spec: dict
    repetitions: int | None = None


@dataclass
class Measured:
    """What was measured of a case.

    Attributes:
        name: of the case.
        seconds: of each round.
        results: what the case returned in each round.
        peak: bytes of memory at most, resident in the process; 0 if it never answered.
        gpu_peak: bytes of GPU memory at most; 0 without a GPU.
        error: why it ended early, or None.
        partial: of a repetition that was not ended, what the case had yielded.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    results: list[dict] = field(default_factory=list)
    peak: int = 0
    gpu_peak: int = 0
    error: str | None = None
    partial: dict = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median seconds of a round; NaN if it never ended one."""
        return statistics.median(self.seconds) if self.seconds else float("nan")


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds of ``theirs / ours``; NaN if one has none."""
    ratios = [their / our for our, their in zip(ours, theirs)]
    return statistics.median(ratios) if ratios else float("nan")


def measure(
    cases: list[Case],
    repetitions: int,
    *,
    fresh: bool = False,
    memory_limit: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Measured]:
    """Measure cases in turn.

    A case that raises, crashes, or passes the memory limit (or what the machine has) is left out
    of the rounds that follow, and says so in its ``error``; the others go on.

    Args:
        cases: with different names.
        repetitions: rounds.
        fresh: start each repetition in a new process, alone: for what can be done but once in a
            process, and for cases that together do not fit into memory.
        memory_limit: bytes that a case may take, or None.
        say: is told what goes on, a line at a time.

    Returns:
        by the name of the case.
    """
    measured = {case.name: Measured(case.name) for case in cases}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        workers: dict[str, _Worker] = {}
        for round_number in range(repetitions):
            for case in cases:
                result = measured[case.name]
                if result.error or round_number >= (case.repetitions or repetitions):
                    continue
                say(f"{case.name}: {round_number + 1} of {case.repetitions or repetitions}")
                with _noting_failure(result):
                    if fresh:
                        with _Worker(case, folder, memory_limit, result) as worker:
                            worker.repeat()
                        continue
                    new = case.name not in workers
                    if new:
                        worker = _Worker(case, folder, memory_limit, result)
                        workers[case.name] = stack.enter_context(worker)
                    workers[case.name].repeat(warm_up=new)
    return measured


class _CaseFailed(Exception):
    """With a sentence for the table."""


@contextlib.contextmanager
def _noting_failure(result: Measured) -> Iterator[None]:
    try:
        yield
    except _CaseFailed as failure:
        result.error = str(failure)


class _Worker:
    """A process that builds a case and repeats it on demand; see worker.py for what is spoken."""

    def __init__(self, case: Case, folder: str, memory_limit: int | None, result: Measured):
        self._case, self._limit, self._result = case, memory_limit, result
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
        )

    def __enter__(self) -> _Worker:
        try:
            self._ask({"function": self._case.function, "spec": self._case.spec})
        except _CaseFailed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def repeat(self, warm_up: bool = False) -> None:
        """One repetition, noted in the result; ``warm_up`` runs a short one twice."""
        answer = self._ask({})
        if warm_up and answer["seconds"] < WARM_UP_SECONDS:
            answer = self._ask({})
        self._result.seconds.append(answer["seconds"])
        self._result.results.append(answer["result"])
        self._result.partial = {}

    def _ask(self, question: dict) -> dict:
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise _CaseFailed(self._why_it_ended()) from None
        answer = json.loads(self._line())
        while "partial" in answer:
            self._result.partial = answer["partial"]
            answer = json.loads(self._line())
        self._result.peak = max(self._result.peak, answer["peak"])
        self._result.gpu_peak = max(self._result.gpu_peak, answer["gpu_peak"])
        if answer["error"]:
            raise _CaseFailed(answer["error"])
        return answer

    def _line(self) -> bytes:
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if select.select([pipe], [], [], POLL_SECONDS)[0]:
                got = os.read(pipe, 2**16)
                if not got:
                    raise _CaseFailed(self._why_it_ended())
                self._unread += got
            self._check_memory()
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _check_memory(self) -> None:
        try:
            used = psutil.Process(self._process.pid).memory_info().rss
        except psutil.NoSuchProcess:
            return
        self._result.peak = max(self._result.peak, used)
        over = self._limit is not None and used > self._limit
        if over or psutil.virtual_memory().available < SPARE_BYTES:
            self._process.kill()
            self._process.wait()
            raise _CaseFailed(f"out of memory: stopped at {used / 1e9:.1f} GB")

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f": {lines[-1].strip()}" if lines else ""
        if code < 0:
            return f"killed by signal {-code}{last}"
        return f"ended with exit code {code}{last}"
