"""The notebook runs from its first cell to its last, and shows what it kept."""

import re

import nbclient
import nbformat
import pytest

from documents import ROOT

NUMBER = re.compile(r"-?\d+\.\d+")


def shown(cell) -> str:
    return "\n".join(output["data"]["text/plain"] for output in cell["outputs"])


def test_the_notebook_shows_what_it_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kept = nbformat.read(ROOT / "docs" / "quickstart.ipynb", 4)
    run = nbformat.read(ROOT / "docs" / "quickstart.ipynb", 4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(run, timeout=300, kernel_name="python3", resources=place).execute()
    outputs = 0
    for then, now in zip(kept.cells, run.cells):
        if then["cell_type"] != "code":
            continue
        before, after = shown(then), shown(now)
        outputs += bool(before)
        assert bool(before) == bool(after), then["source"]
        # Another machine rounds otherwise, and with it may train to other weights.
        found = [[float(text) for text in NUMBER.findall(each)] for each in (before, after)]
        if "similar_items" not in then["source"] and "recommend(" not in then["source"]:
            assert found[1] == pytest.approx(found[0], abs=0.05), then["source"]
    assert outputs == 6
    assert (tmp_path / "comparison" / "report.html").exists()
