"""Starts the processes of this machine, watches over them, and ends them all if one fails.

The parents of the processes, one on each machine, know each other too, by a store of keys and
values that the first machine's parent offers at ``ip:port``. What ends one machine's processes is
told to the others there; and a machine that is gone is missed, however long its processes' peers
would wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, get_start_method, set_start_method
from multiprocessing.connection import wait
from time import monotonic, sleep

import psutil
import torch.distributed as dist

__all__ = ["Layout", "launch"]

# Seconds: between looks at processes and machines; for the reasons of one failure to come together;
# for the machines to start; until one that does not answer is given up; and for a machine to tell
# the others of a failure.
INTERVAL, GRACE, START_LIMIT, LOST_AFTER, FAREWELL = 0.5, 2.0, 600.0, 60.0, 10.0
# How far an error is from being the reason of all. That contact is lost follows from another's end.
KILLED, ELSEWHERE, MISTAKEN, CUT_OFF = range(4)
# What a process may raise that its parent raises again; the first that fits.
MISTAKES = (ConnectionError, NotImplementedError, OSError, ValueError)


@dataclass(frozen=True)
class Layout:
    """How many processes there are, and where.

    Attributes:
        nproc: processes on this machine.
        world_size: processes on all machines.
        group_offset: number of this machine's first process; 0 on the first machine.
        ip: address of the first machine.
        port: a free port there.
    """

    nproc: int
    world_size: int
    group_offset: int
    ip: str
    port: int

    @classmethod
    def checked(cls, nproc=1, world_size=-1, group_offset=0, ip="localhost", port="5678") -> Layout:
        """From RecBole's arguments, of which a ``world_size`` of -1 means ``nproc``.

        Raises:
            ValueError: they do not fit together.
        """
        world_size = nproc if world_size == -1 else world_size
        if nproc < 1:
            raise ValueError(f"nproc must be a number of processes of at least 1, not {nproc}.")
        if nproc > world_size:
            raise ValueError(
                f"nproc={nproc} processes on this machine are more than world_size={world_size} "
                "on all machines."
            )
        if not 0 <= group_offset <= world_size - nproc:
            raise ValueError(
                f"group_offset={group_offset} does not fit: this machine's nproc={nproc} processes "
                f"have the numbers from group_offset on, of 0 to {world_size - 1}."
            )
        if not str(port).isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError(f"port must be a number from 1 to 65535, not {port!r}.")
        return cls(nproc, world_size, group_offset, str(ip), int(port))

    @property
    def hosts(self) -> bool:
        """Whether this is the first machine."""
        return self.group_offset == 0

    @property
    def other_machines(self) -> bool:
        """Whether there are any."""
        return self.nproc < self.world_size


def launch(target: Callable, arguments: tuple, layout: Layout, settings: Mapping, tell=None):
    """Run a function in all processes of this machine, and wait for them.

    Args:
        target: called as ``target(place, layout, *arguments)`` in each process, ``place`` its
            number on this machine. It must be importable in a new process.
        arguments: further arguments; they are pickled.
        layout: of the processes.
        settings: what all machines must have in common.
        tell: takes a line on what happens; prints it beside the output by default.

    Returns:
        what the function returned in the first process of this machine.

    Raises:
        ValueError, NotImplementedError, OSError: as a process raised it, once; or the machines do
            not fit together.
        ChildProcessError: a process was killed, or failed otherwise.
        ConnectionError: another machine is gone, or a process there failed.
    """
    machines = _Machines(layout, tell or _print)
    try:
        machines.meet(settings)
        results = _run(target, arguments, layout, machines)
    except BaseException as error:
        machines.end(error)
        raise
    machines.finish()
    return results[0]


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run(target, arguments, layout: Layout, machines: _Machines) -> list:
    children = []
    try:
        with _not_interrupted():
            for place in range(layout.nproc):
                children.append(_Child(place, layout, target, arguments))
        _watch(children, machines)
        for child in children:
            child.process.join(GRACE)
        return [child.report["result"] for child in children]
    finally:
        # At once, so that none is left to complain of the others.
        for child in children:
            child.process.kill()
        for child in children:
            child.process.join()


class _not_interrupted:
    """Processes that are started within it leave Ctrl-C to their parent."""

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        self.before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None

    def __exit__(self, *error):
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


class _Child:
    """A process and what is known of its end: ``report``, None while it runs."""

    def __init__(self, place: int, layout: Layout, target, arguments):
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_work,
            args=(target, place, layout, arguments, theirs, get_start_method()),
        )
        self.process.start()
        theirs.close()
        self.name = f"process {layout.group_offset + place} of {layout.world_size}"
        self.report: dict | None = None

    def look(self) -> None:
        """See whether it has ended."""
        # In this order: what it sent before it ended is there to be read.
        ended = not self.process.is_alive()
        if self.report is None and self.connection.poll():
            try:
                self.report = self.connection.recv()
            except EOFError:
                self.process.join()
                ended = True
        if self.report is None and ended:
            self.report = {"exit code": self.process.exitcode}

    def failure(self) -> tuple[int, Exception] | None:
        """How far an error is from being the reason of all, and the error."""
        if self.report is None or "result" in self.report:
            return None
        if "exit code" in self.report:
            return KILLED, ChildProcessError(f"{self.name} {_end_of(self.report['exit code'])}.")
        kind, text = self.report["kind"], self.report["text"]
        known = {cls.__name__: cls for cls in MISTAKES}
        if kind in known:
            error = known[kind](text)
        else:
            error = ChildProcessError(f"{self.name} failed: {text}")
        error.__cause__ = _Elsewhere(self.report["traceback"])
        return CUT_OFF if kind == "ConnectionError" else MISTAKEN, error


class _Elsewhere(Exception):
    """The traceback of another process."""


def _end_of(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    hint = "; most often the memory was used up" if code == -signal.SIGKILL else ""
    return f"was ended by signal {-code} ({signal.Signals(-code).name}{hint})"


def _work(target, place: int, layout: Layout, arguments, connection, start_method: str) -> None:
    """What a process does."""
    # Workers of its dataloaders start as everywhere, and not as the process itself has.
    set_start_method(start_method, force=True)
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    _choose_interface(layout)
    try:
        connection.send({"result": target(place, layout, *arguments)})
    except Exception as error:
        kind = next((cls for cls in MISTAKES if isinstance(error, cls)), type(error))
        text = str(error) if kind in MISTAKES else f"{kind.__name__}: {error}"
        report = {"kind": kind.__name__, "text": text, "traceback": traceback.format_exc()}
        connection.send(report)
        sys.stdout.flush()
        # Not through the end of the interpreter, which would wait for what the others do not send.
        os._exit(1)


def _end_with_parent(connection) -> None:
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _choose_interface(layout: Layout) -> None:
    """Let gloo and NCCL use the interface that leads to the first machine: by themselves they ask
    for the address of this machine's name, which often is the loopback's."""
    family, kind, _, _, address = socket.getaddrinfo(
        layout.ip, layout.port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind) as probe:
        # Sends nothing.
        probe.connect(address)
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if own in (each.address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def _watch(children: list[_Child], machines: _Machines) -> None:
    """Return when all processes have given their result, raise when one has failed."""
    waiting_since = None
    while any(child.report is None or child.failure() for child in children):
        running = [child for child in children if child.report is None]
        ends = [each for child in running for each in (child.connection, child.process.sentinel)]
        wait(ends, INTERVAL) if ends else sleep(INTERVAL / 5)
        for child in children:
            child.look()
        failures = [child.failure() for child in children if child.failure()]
        elsewhere = machines.look()
        if elsewhere:
            failures.append((ELSEWHERE, elsewhere))
        if not failures:
            continue
        waiting_since = waiting_since or monotonic()
        rank, error = min(failures, key=lambda failure: failure[0])
        # A machine tells the others of a mistake when its own grace is over.
        grace = FAREWELL if rank == CUT_OFF and machines.others else GRACE
        if rank in (KILLED, ELSEWHERE) or monotonic() - waiting_since > grace:
            raise error


class _Machines:
    """This machine among the others; alone, it has nothing to ask.

    Keys of the store: ``settings``; ``taken/N`` and ``machine/N``, the first process of the machine
    that process N is on; ``joined``, how many processes are there; ``alive/M``, changing while
    machine M is there, ``done/M``; and ``failed``, why all have to end.
    """

    def __init__(self, layout: Layout, tell):
        self.layout, self.tell, self.store = layout, tell, None
        self.others: dict[int, tuple[bytes, float]] = {}
        self.beats, self.last_beat = 0, 0.0
        # What the store is asked in the look that has not ended yet.
        self.asked: futures.Future | None = None

    def meet(self, settings: Mapping) -> None:
        """Offer or find the store, and wait until all machines are there with equal settings."""
        layout = self.layout
        try:
            self.store = _offered_store(layout) if layout.hosts else _found_store(layout, self.tell)
            if layout.other_machines:
                self._register({"world_size": layout.world_size, **settings})
        except (RuntimeError, TimeoutError) as error:
            raise self._no_contact() from error

    def _register(self, settings: dict) -> None:
        layout = self.layout
        if _within(LOST_AFTER, lambda: self._sign_up(settings)) < layout.world_size:
            self.tell(
                f"Waiting for the other machines: {layout.nproc} of {layout.world_size} processes "
                f"are here (--ip={layout.ip} --port={layout.port})."
            )
        start = monotonic()
        while (joined := _within(LOST_AFTER, self._joined)) < layout.world_size:
            if monotonic() - start > START_LIMIT:
                raise ConnectionError(
                    f"only {joined} of {layout.world_size} processes have come in "
                    f"{START_LIMIT:.0f} seconds."
                )
            sleep(INTERVAL)
        others = _within(LOST_AFTER, self._offsets) - {layout.group_offset}
        self.others = {machine: (b"", monotonic()) for machine in others}

    def _sign_up(self, settings: dict) -> int:
        """Enter this machine's processes; how many there are by now."""
        layout, store = self.layout, self.store
        if layout.hosts:
            store.set("settings", json.dumps(settings, default=str))
        _compare(json.loads(store.get("settings")), settings)
        numbers = range(layout.group_offset, layout.group_offset + layout.nproc)
        for number in numbers:
            if store.add(f"taken/{number}", 1) > 1:
                raise ValueError(
                    f"group_offset={layout.group_offset}: another machine has process {number} of "
                    f"{layout.world_size} already; give each machine numbers of its own."
                )
            store.set(f"machine/{number}", str(layout.group_offset))
        return store.add("joined", layout.nproc)

    def _joined(self) -> int:
        self._check_failed()
        return self.store.add("joined", 0)

    def _offsets(self) -> set[int]:
        return {int(self.store.get(f"machine/{n}")) for n in range(self.layout.world_size)}

    def look(self) -> Exception | None:
        """Show that this machine is there; what is wrong with the others, if anything.

        Returns soon, also where the first machine is gone.
        """
        if self.asked is None:
            if not self.others or monotonic() - self.last_beat < INTERVAL:
                return None
            self.last_beat = monotonic()
            self.asked = _in_thread(self._ask)
        futures.wait([self.asked], INTERVAL / 5)
        if self.asked.done():
            asked, self.asked = self.asked, None
            error = asked.exception()
            return self._no_contact() if isinstance(error, RuntimeError) else error
        if monotonic() - self.last_beat > LOST_AFTER:
            # Nobody can be told.
            self.store = None
            return self._no_contact()
        return None

    def _ask(self) -> None:
        self.beats += 1
        self.store.set(f"alive/{self.layout.group_offset}", str(self.beats))
        self._check_failed()
        for machine in self.others:
            self._check_alive(machine)

    def _check_failed(self) -> None:
        if self.store.check(["failed"]):
            raise ConnectionError(f"on another machine, {self.store.get('failed').decode()}")

    def _check_alive(self, machine: int) -> None:
        beat, since = self.others[machine]
        key = f"alive/{machine}"
        now = self.store.get(key) if self.store.check([key]) else b""
        if now != beat or self.store.check([f"done/{machine}"]):
            self.others[machine] = now, monotonic()
        elif monotonic() - since > LOST_AFTER:
            raise ConnectionError(
                f"the machine of process {machine} has not been heard of for "
                f"{LOST_AFTER:.0f} seconds."
            )

    def _no_contact(self) -> ConnectionError:
        address = f"{self.layout.ip}:{self.layout.port}"
        return ConnectionError(f"there is no contact to the first machine at {address}.")

    def end(self, error: BaseException) -> None:
        """Tell the other machines why, without waiting long for them to hear it."""
        if self.store is None or not self.layout.other_machines:
            return
        reason = str(error) or "the command was interrupted."
        # Without contact, nobody is there to be told.
        with suppress(RuntimeError, TimeoutError):
            _within(FAREWELL, lambda: self._note_failure(reason))
            self._say_done(GRACE)

    def _note_failure(self, reason: str) -> None:
        if not self.store.check(["failed"]):
            self.store.set("failed", reason)

    def finish(self) -> None:
        """The first machine stays until the others have what they need of it."""
        if not self.others:
            return
        # Whatever becomes of another machine now, all processes have done their work.
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            self._say_done(None)
        if not self.layout.hosts:
            self.tell("Done; the results are on the first machine.")

    def _say_done(self, limit: float | None) -> None:
        _within(FAREWELL, lambda: self.store.set(f"done/{self.layout.group_offset}", ""))
        if not self.layout.hosts:
            return
        start = monotonic()
        while not all(self.store.check([f"done/{machine}"]) for machine in self.others):
            if limit is not None and monotonic() - start > limit:
                return
            error = self.look() if limit is None else None
            if error:
                raise error
            sleep(INTERVAL / 5)


def _within(limit: float, action: Callable):
    """What a function returns that uses the store.

    Where the first machine is gone without a word, no call of the store's returns, whatever its
    timeout: such a call is left behind.

    Raises:
        TimeoutError: it takes more than ``limit`` seconds.
    """
    asked = _in_thread(action)
    futures.wait([asked], limit)
    if not asked.done():
        raise TimeoutError(f"no answer in {limit:.0f} seconds")
    return asked.result()


def _in_thread(action: Callable) -> futures.Future:
    future: futures.Future = futures.Future()

    def work():
        try:
            future.set_result(action())
        except Exception as error:
            future.set_exception(error)

    # One that does not return is no reason for this process not to end.
    threading.Thread(target=work, daemon=True).start()
    return future


def _compare(theirs: dict, settings: dict) -> None:
    ours = json.loads(json.dumps(settings, default=str))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{key} is {ours.get(key)!r} here and {theirs.get(key)!r} on the first machine: "
                "the commands may differ in nproc, group_offset and paths only."
            )


def _offered_store(layout: Layout) -> dist.TCPStore:
    family, kind, _, _, address = _address(layout)
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise ValueError(
                f"ip={layout.ip} port={layout.port}: this machine, which has the first process "
                f"(group_offset=0), cannot listen there ({error.strerror}). Give the machine's own "
                "address and a free port, the same on all machines."
            ) from None
    return _store(layout, listens=True)


def _found_store(layout: Layout, tell) -> dist.TCPStore:
    _address(layout)
    start, told = monotonic(), False
    while True:
        try:
            socket.create_connection((layout.ip, layout.port), timeout=INTERVAL * 4).close()
            return _within(LOST_AFTER, lambda: _store(layout, listens=False))
        except OSError as error:
            if monotonic() - start > START_LIMIT:
                raise ConnectionError(
                    f"ip={layout.ip} port={layout.port}: the first machine did not answer in "
                    f"{START_LIMIT:.0f} seconds ({error.strerror or error}). Start it with "
                    "group_offset=0, and see that its port can be reached."
                ) from None
        if not told:
            tell(f"Waiting for the first machine at {layout.ip}:{layout.port}.")
            told = True
        sleep(INTERVAL)


def _address(layout: Layout) -> tuple:
    try:
        return socket.getaddrinfo(layout.ip, layout.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(
            f"ip={layout.ip} is no address that can be found ({error.strerror}): give that of the "
            "first machine."
        ) from None


def _store(layout: Layout, listens: bool) -> dist.TCPStore:
    return dist.TCPStore(
        layout.ip,
        layout.port,
        is_master=listens,
        timeout=timedelta(seconds=LOST_AFTER),
        wait_for_workers=False,
    )
