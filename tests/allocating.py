"""What a run leaves of glibc's allocator, for a process of its own."""

import ctypes
import sys
from typing import ClassVar

import torch

from build import trained


def run_and_allocate(model: str, settings: dict) -> None:
    sys.argv = sys.argv[:1]
    loaders, trainer = trained(model, settings)
    trainer.evaluate(loaders[2])
    # The first block is mapped by itself, and being freed raises the threshold above its size:
    # unless somebody has ever set a threshold by hand, no further one of its size is mapped.
    torch.zeros(6 * 2**20)
    before = mapped_blocks()
    kept = torch.zeros(6 * 2**20)
    assert mapped_blocks() == before
    del kept


class MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in NAMES.split()]


def mapped_blocks() -> int:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = MallInfo
    return mallinfo().hblks
