"""The peak of a process of its own, not of its parent."""

import subprocess
import sys

import numpy as np

from recbole_evcf.comparison.measuring import peak_memory


def test_a_large_array_raises_the_peak():
    before = peak_memory()
    size = before + 40 * 2**20
    kept = np.ones(size // 8)
    assert peak_memory() >= before + 40 * 2**20
    del kept
    assert peak_memory() >= before + 40 * 2**20


def test_a_new_program_does_not_inherit_it():
    source = "import recbole_evcf.comparison.measuring as m; print(m.peak_memory())"
    code = source.replace("import recbole_evcf.comparison.measuring as m", _loaded_alone())
    kept = np.ones(2**25)
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    assert kept.nbytes == 2**28
    assert peak < 2**27


def _loaded_alone() -> str:
    """Without the package, whose imports are large themselves."""
    from recbole_evcf.comparison import measuring

    return (
        "import importlib.util as u; s = u.spec_from_file_location('m', "
        f"{measuring.__file__!r}); m = u.module_from_spec(s); s.loader.exec_module(m)"
    )
