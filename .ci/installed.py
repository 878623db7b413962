"""The installed package finds its own files by their names: installed.py CHECKOUT."""

import sys
from pathlib import Path

import recbole_evcf
from recbole_evcf import cli
from recbole_evcf.config.files import shipped_names

checkout = Path(sys.argv[1]).resolve()
assert not Path(recbole_evcf.__file__).is_relative_to(checkout), recbole_evcf.__file__
for ending in (".yaml", ".hyper"):
    files = (checkout / "properties").rglob(f"*{ending}")
    names = [path.relative_to(checkout / "properties").with_suffix("").as_posix() for path in files]
    assert shipped_names(ending) == sorted(names), ending
small = ["--epochs=1", "--n_pseudo_inputs=20", "--show_progress=False", "--state=error"]
protocol = "--config_files=protocol/strong_generalization"
assert cli.main(["run", "--model=Vamp", "--dataset=ml-100k", protocol, *small]) == 0
print(f"recbole_evcf {recbole_evcf.__version__} runs from {Path(recbole_evcf.__file__).parent}")
