"""The processes that train one model together: which of them this is, and what they exchange.

Each process reads the same data, makes the same batches and draws the same random numbers as one
process alone would; of every batch it computes a shard of the rows. RecBole's own division
(``single_spec: False``) pads batches and averages metrics, and is not used.

A process that never joined others is the first and only one: nothing here then does anything.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recbole_evcf.data.histories import BatchShard, shard_of

__all__ = [
    "agree",
    "copy_from_first",
    "count",
    "file_of_first",
    "find_others",
    "from_first",
    "gather_rows",
    "is_first",
    "join",
    "leave",
    "part",
    "rank",
    "same_draws",
    "share_processor",
    "sum_up",
]

# How long a process waits for what another one has to send. A connection that breaks is noticed at
# once, and a machine that is gone by those who watch the processes (launch.py).
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class _Group:
    rank: int
    count: int
    device: torch.device


_ALONE = _Group(0, 1, torch.device("cpu"))
_group = _ALONE
_store: dist.Store | None = None


def rank() -> int:
    """The number of this process among those of all machines, from 0."""
    return _group.rank


def count() -> int:
    """The number of processes on all machines."""
    return _group.count


def is_first() -> bool:
    """Whether this is the one process that writes files and tells what happens."""
    return _group.rank == 0


def part(total: int) -> BatchShard | None:
    """What this process computes of ``total`` rows; None if it is alone."""
    return None if count() == 1 else shard_of(total, rank(), count())


def find_others(ip: str, port: int) -> None:
    """Let :func:`join` take the store that somebody else than the first process offers there.

    Raises:
        ConnectionError: nobody does.
    """
    global _store
    with _talking():
        _store = dist.TCPStore(ip, port, is_master=False, timeout=PATIENCE)


def join(rank: int, count: int, device: torch.device, ip: str, port: int) -> None:
    """Meet the other processes; returns when all are there. A second call does nothing.

    Tensors on GPUs travel by NCCL, others by gloo.

    Args:
        rank: the number of this process, from 0.
        count: how many there are.
        device: where this one computes.
        ip: address of the first machine.
        port: where the first process listens, if :func:`find_others` has not been called.

    Raises:
        ConnectionError: the others were not to be found.
    """
    global _group
    if _group is not _ALONE or count == 1:
        return
    with _talking():
        store = _store or dist.TCPStore(
            ip, port, is_master=rank == 0, timeout=PATIENCE, wait_for_workers=False
        )
        dist.init_process_group(
            "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl",
            store=dist.PrefixStore("processes", store),
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )
    _group = _Group(rank, count, device)


def leave() -> None:
    """Part from the others, when all are ready to."""
    global _group
    if _group is not _ALONE:
        with _talking():
            dist.barrier()
        dist.destroy_process_group()
    _group = _ALONE


def share_processor(n_here: int) -> None:
    """Leave ``n_here`` processes on this machine a fair share of its cores each, unless
    ``OMP_NUM_THREADS`` says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(torch.get_num_threads() // n_here, 1))


def sum_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, the same on each to the last bit."""
    if count() == 1:
        return
    with _talking():
        works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
        for work in works:
            work.wait()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, those of the first one first; each may have any number."""
    if count() == 1:
        return rows
    numbers = [torch.zeros(1, dtype=torch.long) for _ in range(count())]
    with _talking():
        dist.all_gather(numbers, torch.tensor([len(rows)]))
        most = int(max(numbers))
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in numbers]
        dist.all_gather(gathered, padded)
    return torch.cat([each[: int(number)] for each, number in zip(gathered, numbers)])


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Write the first process's values into the tensors of the others."""
    if count() == 1:
        return
    with _talking(), torch.no_grad():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def from_first(value):
    """The first process's value, of numbers, texts, lists and dicts with texts as keys."""
    if count() == 1:
        return value
    text = json.dumps(value, default=float).encode() if is_first() else b""
    size = torch.tensor([len(text)])
    copy_from_first([size])
    data = torch.frombuffer(bytearray(text or bytes(int(size))), dtype=torch.uint8)
    copy_from_first([data])
    return value if is_first() else json.loads(data.numpy().tobytes())


@contextmanager
def file_of_first(path: str) -> Iterator[str]:
    """A path at which this process can read the file that the first has under ``path``."""
    if is_first():
        content = torch.from_file(path, size=os.path.getsize(path), dtype=torch.uint8)
    size = torch.tensor([len(content) if is_first() else 0])
    copy_from_first([size])
    if is_first():
        copy_from_first([content])
        yield path
        return
    content = torch.empty(int(size), dtype=torch.uint8)
    copy_from_first([content])
    with tempfile.TemporaryDirectory() as folder:
        own = os.path.join(folder, os.path.basename(path))
        content.numpy().tofile(own)
        yield own


def agree(value, message: str) -> None:
    """Compare a value with the first process's.

    Raises:
        ValueError: it is another one; with the message, of which {rank} and {count} are filled in.
    """
    if from_first(value) != value:
        raise ValueError(message.format(rank=rank(), count=count()))


def same_draws() -> None:
    """Let all processes draw the random numbers that the first would draw from here on."""
    if count() == 1:
        return
    cuda = _group.device if _group.device.type == "cuda" else None
    states = [torch.get_rng_state()]
    if cuda:
        states.append(torch.cuda.get_rng_state(cuda))
    copy_from_first(states)
    torch.set_rng_state(states[0])
    if cuda:
        torch.cuda.set_rng_state(states[1], cuda)
    _, keys, *rest = np.random.get_state()
    keys, rest = from_first([keys.tolist(), rest])
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), *rest))


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"process {rank()} of {count()} lost contact with the others: {error}"
        ) from error
