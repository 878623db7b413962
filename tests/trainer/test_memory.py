"""That freed memory stays within the context and goes back after it."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from recbole_evcf.trainer.memory import freed_memory_kept

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(4 * 2**20)  # 16 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

outside = faults(4)
with freed_memory_kept():
    faults(1)
    inside = faults(4)
    held = resident()
print(outside, inside, held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator")
def test_freed_blocks_are_handed_out_again_and_returned_at_the_end():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outside, inside, returned = map(int, done.stdout.split())
    assert inside < outside / 4
    assert returned > 3000  # pages of 4 kB


def test_another_c_library_is_left_alone(monkeypatch):
    from recbole_evcf.trainer import memory

    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    memory._glibc.cache_clear()
    with memory.freed_memory_kept():
        assert memory._glibc() is None
    memory._glibc.cache_clear()
