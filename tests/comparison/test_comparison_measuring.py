"""The peak of a process of its own, not of its parent."""

import inspect
import subprocess
import sys

import numpy as np

from recbole_evcf.comparison.worker import peak_memory


def test_a_large_array_raises_the_peak():
    before = peak_memory()
    size = before + 40 * 2**20
    kept = np.ones(size // 8)
    assert peak_memory() >= before + 40 * 2**20
    del kept
    assert peak_memory() >= before + 40 * 2**20


def test_a_new_program_does_not_inherit_it():
    # Without the package, whose imports are large themselves.
    code = f"""
from __future__ import annotations
import sys
from pathlib import Path
{inspect.getsource(peak_memory)}
print(peak_memory())
"""
    kept = np.ones(2**25)
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    assert kept.nbytes == 2**28
    assert peak < 2**27
