"""The processes that train one model together: how they start, and what they exchange.

torch's elastic agent, one on each machine, starts the processes, ends them together and restarts
them (:func:`launch`); or ``torchrun`` or Slurm has started them (:func:`from_environment`). Each
reads the same data, makes the same batches and draws the same random numbers as one process alone
would; of every batch it computes a shard of the rows. RecBole's own division
(``single_spec: False``) pads batches and averages metrics, and is not used.

A process that never joined others is the first and only one: nothing is then exchanged.
"""

import json
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import current_process, get_start_method, parent_process, set_start_method
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from recbole_evcf.config.keys import differences
from recbole_evcf.data.histories import BatchShard, shard_of

# How long a process waits for the others, also at the start. A broken connection is noticed at
# once: this is for a machine that vanishes from the network.
PATIENCE = timedelta(minutes=10)
# Seconds a failed process has to report why, before others report lost contact.
GRACE = 5.0
# RecBole's default.
PORT = 5678
# The exit code of :func:`end_unguarded`.
UNGUARDED = 78
# Errors of a process that its parent raises again, by name; the first that fits counts.
MISTAKES = {
    cls.__name__: cls for cls in (ConnectionError, NotImplementedError, OSError, ValueError)
}


class FailedElsewhere(ConnectionError):
    """Another process failed, and has reported why."""


@dataclass
class _Group:
    rank: int = 0
    count: int = 1
    device: torch.device | None = None
    store: dist.Store | None = None
    on_one_machine: bool = False
    # For tensors that travel together.
    buffers: dict[torch.dtype, Tensor] = field(default_factory=dict)


_group = _Group()


def layout(nproc: int, world_size: int, group_offset: int, ip: str, port: Any) -> dict[str, Any]:
    """Return RecBole's keys for the processes of this machine, from the arguments of its ``run``;
    raise a ValueError if they do not fit together. Without a port it is ``PORT``, or on one
    machine alone 0, which stands for any free one: other runs may be going on there.
    """
    count = nproc if world_size == -1 else world_size
    if nproc < 1:
        raise ValueError(f"nproc must be a number of processes of at least 1, not {nproc}.")
    if not 0 <= group_offset <= count - nproc:
        raise ValueError(
            f"nproc={nproc} processes numbered from group_offset={group_offset} on are none of the "
            f"world_size={count} numbered from 0."
        )
    if port == "":
        port = PORT if nproc < count else 0
    elif not (str(port).isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"port must be a number from 1 to 65535, not {port!r}.")
    numbers = {"nproc": nproc, "world_size": count, "offset": group_offset}
    return {**numbers, "ip": ip, "port": int(port)}


def from_environment() -> dict[str, Any]:
    """Return the keys of a process that ``torchrun`` or ``srun`` has started as one of several.

    They are those of :func:`layout`, and ``local_rank``; none if the process is alone.

    Raises:
        ValueError: the environment is incomplete.
    """
    os.environ.update(_as_torchrun(os.environ))
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        return {}
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR")
    try:
        *numbers, ip = (os.environ[name] for name in names)
        number, count, local, port = map(int, numbers)
        nproc = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    except (KeyError, ValueError):
        raise ValueError(
            "RANK is set in the environment: WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT "
            "must be too, as torchrun sets them."
        ) from None
    return {"local_rank": local, **layout(nproc, count, number - local, ip, port)}


def _as_torchrun(env: Mapping[str, str]) -> dict[str, str]:
    """Return what ``torchrun`` would have set, from what ``srun`` has set."""
    count = env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS", "1")
    # A batch script has these variables too, but is not one of the tasks.
    in_batch = "SLURM_JOB_ID" in env and "SLURM_STEP_ID" not in env
    if "RANK" in env or "SLURM_PROCID" not in env or in_batch or count == "1":
        return {}
    nodes = int(env.get("SLURM_NNODES", "1"))
    # The first host of node[07-09,12],other.
    first = re.match(r"([^,[]*)(?:\[(\d+))?", env.get("SLURM_NODELIST", ""))
    found = {
        "RANK": env["SLURM_PROCID"],
        "WORLD_SIZE": count,
        "LOCAL_RANK": env.get("SLURM_LOCALID", ""),
        "LOCAL_WORLD_SIZE": str(-(-int(count) // nodes)),
        "MASTER_ADDR": "".join(first.groups("")) if first and nodes > 1 else "127.0.0.1",
        "MASTER_PORT": str(20000 + int(env.get("SLURM_JOB_ID", "0")) % 20000),
    }
    return {name: value for name, value in found.items() if name not in env}


def restarts() -> int:
    """Return how often the processes have been restarted."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def launch(target: Callable, arguments: tuple, keys: Mapping, max_restarts: int = 0) -> Any:
    """Run a function in all processes of this machine; return its result in the first of them.

    Args:
        target: called as ``target(keys, *arguments)``, with ``local_rank`` among the keys; a new
            process must be able to import it, and to unpickle the arguments.
        keys: those of :func:`layout`.
        max_restarts: how often all are restarted after one has died.

    Raises:
        ValueError, NotImplementedError, OSError: as a process raised it; or the machine cannot
            listen at the port.
        ChildProcessError: a process was killed, or failed otherwise.
        ConnectionError: another machine is gone, or a process there failed.
    """
    # The meeting point, which lives as long as this reference.
    store = _meeting_point(keys)
    if store:
        keys = {**keys, "port": store.port}
    if several_machines := keys["nproc"] < keys["world_size"]:
        where = f"--ip={keys['ip']} --port={keys['port']}"
        print(f"Waiting for the other machines ({where}).", file=sys.stderr, flush=True)
    # Its long log repeats what one sentence of ours reports.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").disabled = True
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=keys["nproc"],
                logs_specs=DefaultLogsSpecs(log_dir=folder),
                run_id="recbole-evcf",
                rdzv_backend="static",
                # For the agent only, at a free port; avoids looking up this machine's name.
                rdzv_endpoint="127.0.0.1:0",
                rdzv_configs={"rank": 0},
                local_addr="127.0.0.1",
                max_restarts=max_restarts,
                # None: they interrupt this process, and the agent then ends the others.
                signals_to_handle="",
            )
            return elastic_launch(config, _work)(target, keys, get_start_method(), arguments)[0]
    except ChildFailedError as error:
        if store and several_machines:
            # The others may be asking why.
            time.sleep(GRACE)
        failure = _failure(error, keys)
        raise failure from failure.__cause__


def _work(target: Callable, keys: Mapping, start_method: str, arguments: tuple) -> Any:
    """Run the target in a process that the agent has started."""
    # Ctrl-C and the parent's death end it at once and silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Dataloader workers use the default start method, not this process's.
    set_start_method(start_method, force=True)
    # The agent counts this machine only.
    del os.environ["RANK"]
    # A fair share of the cores.
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // keys["nproc"], 1))
    try:
        return target({"local_rank": int(os.environ["LOCAL_RANK"]), **keys}, *arguments)
    except Exception as error:
        reason = explain(error)
        # The parent reports this process's own error, even if another has reported it.
        reason = reason if isinstance(error, ConnectionError) else error
        known = next((kind for kind in MISTAKES.values() if isinstance(reason, kind)), None)
        get_error_handler().record_exception(known(str(reason)) if known else reason)
        sys.stdout.flush()
        # The interpreter's normal exit would wait for data that the others do not send.
        os._exit(1)


def _failure(error: ChildFailedError, keys: Mapping) -> Exception:
    """Return the error of the process that failed first, or how it ended, in words."""
    number, failure = error.get_first_failure()
    name = f"process {keys['offset'] + number} of {keys['world_size']}"
    if isinstance(failure.message, str):
        # It could not report anything itself.
        return ChildProcessError(f"{name} {how_ended(failure.exitcode)}.")
    kind, _, message = failure.message["message"].partition(": ")
    known = MISTAKES.get(kind)
    raised = known(message) if known else ChildProcessError(f"{name} failed: {kind}: {message}")
    raised.__cause__ = RuntimeError(failure.message["extraInfo"]["py_callstack"])
    return raised


def end_with_parent() -> None:
    """Let this process end when the one that started it does, killed or not."""
    if parent := parent_process():

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def end_unguarded() -> None:
    """End this process if it is a new one that still imports the script it comes from. What trains
    or starts processes calls this first: it is the script's call, met again.
    """
    # As multiprocessing itself notices it.
    if getattr(current_process(), "_inheriting", False):
        raise SystemExit(UNGUARDED)


def how_ended(exit_code: int) -> str:
    """Return how a process ended, as ``ended with exit code 3`` or ``was killed by SIGTERM``."""
    if exit_code == UNGUARDED:
        return (
            "imported your script, which called the same functions again: put its calls under "
            'if __name__ == "__main__"'
        )
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = "; most often the memory was used up" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def explain(error: Exception) -> Exception:
    """Report this process's error to the others, or ask for theirs if contact was lost; return the
    error, or a :class:`FailedElsewhere` with the reason that another process gave first.
    """
    store, ours = _group.store, f"process {_group.rank} of {count()}: {error}"
    if store is None:
        # Before they meet all fail alike, and the first reports it.
        time.sleep(GRACE if os.environ.get("RANK", "0") != "0" else 0)
        return error
    reasons = [ours]

    def ask() -> None:
        # The process that offers the store may be gone.
        with suppress(RuntimeError):
            lost = isinstance(error, ConnectionError)
            said = store.get("why") if lost else store.compare_set("why", "", ours)
            reasons.append(said.decode())

    # If its machine has vanished, no call to the store returns.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(GRACE)
    reason = reasons[-1]
    return error if reason == ours else FailedElsewhere(f"another process failed: {reason}")


def _meeting_point(keys: Mapping) -> dist.TCPStore | None:
    """Offer the store at which all processes meet, if this is the first machine."""
    ip, port, is_here = keys["ip"], keys["port"], keys["offset"] == 0
    try:
        family, *_, address = socket.getaddrinfo(ip, port, type=socket.SOCK_STREAM)[0]
        if is_here:
            socket.create_server(address, family=family).close()
    except OSError as error:
        where = f"ip={ip} port={port}" if port else f"ip={ip}"
        raise ValueError(
            f"{where} cannot be used ({error.strerror}): give the address of the first "
            "machine, which has the first process (group_offset=0), and a free port there, the "
            "same on all machines."
        ) from None
    return dist.TCPStore(ip, port, is_master=True, wait_for_workers=False) if is_here else None


def count() -> int:
    """Return the number of processes on all machines."""
    return _group.count


def is_first() -> bool:
    """Whether this is the one process that writes files and logs."""
    return _group.rank == 0


def device() -> torch.device | None:
    """Return where this process computes; None if it is alone."""
    return _group.device


def part(total: int) -> BatchShard | None:
    """Return this process's share of ``total`` rows; None if it is alone."""
    return None if count() == 1 else shard_of(total, _group.rank, count())


def join(keys: Mapping, device: torch.device) -> None:
    """Meet the other processes; returns when all are there, and raises a ConnectionError if not.

    Args:
        keys: those of :func:`layout`, and ``local_rank``.
        device: where this process computes: from GPUs tensors travel by NCCL, otherwise by gloo.

    Raises:
        ValueError: another process has the same number, or a different count.
    """
    global _group
    ip, port, count = keys["ip"], keys["port"], keys["world_size"]
    rank = keys["offset"] + keys["local_rank"]
    if device.type == "cuda":
        device = torch.device("cuda", keys["local_rank"])
        torch.cuda.set_device(device)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    # Under torchrun, agents of several machines offer a new store after each restart.
    attempt = restarts() if os.environ.get("GROUP_WORLD_SIZE") == "1" else 0
    _choose_interface(ip, port)
    _group = _Group(rank, count, device, on_one_machine=keys["nproc"] == count)
    with _talking():
        own = rank == 0 and not agent
        server = dist.TCPStore(ip, port, is_master=own, timeout=PATIENCE, wait_for_workers=False)
        _group.store = store = dist.PrefixStore(f"attempt {attempt}", server)
        if (theirs := store.compare_set("count", "", str(count)).decode()) != str(count):
            raise ValueError(f"world_size is {count} here and {theirs} on another machine.")
        if store.add(f"process {rank}", 1) > 1:
            raise ValueError(
                f"group_offset: another machine has process {rank} of {count} already; give each "
                "machine numbers of its own."
            )
        dist.init_process_group(
            "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
            store=dist.PrefixStore("torch", store),
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )


def _choose_interface(ip: str, port: int) -> None:
    """Make gloo and NCCL use the interface that leads to the first machine: by default they look
    up this machine's name, which often is the loopback's."""
    family, *_, address = socket.getaddrinfo(ip, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        # Sends nothing.
        probe.connect(address)
        own = probe.getsockname()[0]
    for name, addresses in psutil.net_if_addrs().items():
        if own in (each.address for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def leave() -> None:
    """Leave the group when all processes are ready to."""
    global _group
    if _group.store:
        with _talking():
            dist.barrier()
        dist.destroy_process_group()
    _group = _Group()


def sum_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, bitwise the same on each.

    They travel together, in one buffer that is reused.
    """
    if count() == 1:
        return
    pieces = [tensor.detach().reshape(-1) for tensor in tensors]
    sizes, like = [len(piece) for piece in pieces], pieces[-1]
    buffer = _group.buffers.setdefault(like.dtype, like.new_empty(0)).resize_(sum(sizes))
    torch.cat(pieces, out=buffer)
    with _talking():
        dist.all_reduce(buffer)
    for tensor, total in zip(tensors, buffer.split(sizes)):
        tensor.detach().copy_(total.view(tensor.shape))


def gather(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes, of one shape, as (count, *shape)."""
    gathered = tensor.new_empty(count(), *tensor.shape)
    with _talking():
        dist.all_gather(list(gathered), tensor)
    return gathered


class Exchange:
    """Memory in which a process leaves vectors for the others, step by step. On one machine, if it
    is Linux, the processes on CPUs share it; between machines and GPUs the vectors travel.

    Args:
        size: of a vector.
        like: a tensor of the same kind.

    Attributes:
        number: of this process.
        rows: (count, size), to be written: row r for process r, and row ``number`` for all.
    """

    def __init__(self, size: int, like: Tensor):
        self.number = _group.rank
        self._shared = _shared_rows(size, like)
        if self._shared:
            self.rows = self._shared[self.number]
        else:
            # Allocated once: new memory costs as much as what is done with it.
            self.rows, self._received = like.new_zeros(2, count(), size)

    def for_this(self) -> list[Tensor]:
        """Return what the others have left for this process alone."""
        with _talking():
            if self._shared:
                dist.barrier()
                received = [rows[self.number] for rows in self._shared]
            else:
                dist.all_to_all_single(self._received, self.rows)
                received = list(self._received)
        return received[: self.number] + received[self.number + 1 :]

    def for_all(self) -> list[Tensor]:
        """Return what each process has left for all."""
        with _talking():
            if self._shared:
                dist.barrier()
                return [rows[number] for number, rows in enumerate(self._shared)]
            # gloo's own all_gather takes four times as long.
            self.rows.copy_(self.rows[self.number].clone())
            dist.all_to_all_single(self._received, self.rows)
        return list(self._received)


def _shared_rows(size: int, like: Tensor) -> list[Tensor] | None:
    """Memory of each process, (count, size), that all can write; None where there is none."""
    if not (_group.on_one_machine and like.device.type == "cpu" and hasattr(os, "memfd_create")):
        return None
    name, file = from_first(uuid4().hex), -1
    shared = []
    # Where it is forbidden, the others learn it all the same.
    with suppress(OSError):
        file = os.memfd_create(name)
        os.ftruncate(file, count() * size * like.itemsize)
    # In containers of their own they may not see each other, or others by these numbers.
    with suppress(OSError, RuntimeError):
        for process, number in gather(torch.tensor([os.getpid(), file])).tolist():
            path = f"/proc/{process}/fd/{number}"
            if name in os.readlink(path):
                mapped = torch.from_file(path, True, count() * size, dtype=like.dtype)
                shared.append(mapped.view(count(), size))
    all_shared = (gather(torch.tensor(len(shared))) == count()).all()
    if file >= 0:
        os.close(file)
    return shared if all_shared else None


def gather_rows(rows: Tensor, numbers: Sequence[int] = ()) -> Tensor:
    """Return the rows of all processes, the first one's first; each may have any number of them
    (``numbers``, where they are known)."""
    if count() == 1:
        return rows
    numbers = numbers or gather(torch.tensor(len(rows))).tolist()
    padded = rows.new_zeros(max(numbers), *rows.shape[1:])
    padded[: len(rows)] = rows
    return torch.cat([each[:number] for each, number in zip(gather(padded), numbers)])


def gather_parts(rows: Tensor, total: int) -> Tensor:
    """Return all ``total`` rows, of which each process has its :func:`part`; the gradient of its
    rows is the sum of what they get in all processes."""
    return _GatherParts.apply(rows, total)


class _GatherParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, total: int) -> Tensor:
        numbers = [len(shard_of(total, rank, count())) for rank in range(count())]
        ctx.rows = shard_of(total, _group.rank, count()).rows
        return gather_rows(rows, numbers)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.clone(memory_format=torch.contiguous_format)
        sum_up([grad])
        return grad[ctx.rows], None


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Copy the first process's values into the tensors of the others."""
    if count() == 1:
        return
    with _talking(), torch.no_grad():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def _bytes_of_first(data: np.ndarray) -> np.ndarray:
    """Return the first process's bytes; those of the others are ignored."""
    size = torch.tensor([len(data)])
    copy_from_first([size])
    data = data if is_first() else np.empty(int(size), np.uint8)
    copy_from_first([torch.from_numpy(data)])
    return data


def from_first(value: Any) -> Any:
    """Return the first process's value: numbers, strings, lists and dicts with string keys."""
    if count() == 1:
        return value
    text = json.dumps(value if is_first() else None, default=float).encode()
    data = _bytes_of_first(np.array(bytearray(text)))
    return value if is_first() else json.loads(data.tobytes())


@contextmanager
def file_of_first(path: str) -> Iterator[str]:
    """Return a path where this process can read the first one's file ``path``."""
    if count() == 1:
        # A file of many gigabytes is not read for nothing.
        yield path
        return
    data = _bytes_of_first(np.fromfile(path if is_first() else os.devnull, np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        own = os.path.join(folder, os.path.basename(path))
        if not is_first():
            data.tofile(own)
        yield path if is_first() else own


def agree(value: Any, message: str) -> None:
    """Raise a ValueError if a value is not the first process's; {rank} and {count} are filled in
    in the message."""
    if from_first(value) != value:
        raise ValueError(message.format(rank=_group.rank, count=count()))


def agree_on(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first setting that is not the first process's."""
    ours = json.loads(json.dumps(settings, default=str))
    theirs = from_first(ours)
    for key in differences(ours, theirs):
        raise ValueError(
            f"{key} is {ours.get(key)!r} here and {theirs.get(key)!r} on the first machine: "
            "the commands may differ in nproc, group_offset and paths only."
        )


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"process {_group.rank} of {count()} lost contact with the others: {error}"
        ) from error
