"""Comparisons without processes of their own, which take seconds each to start."""

from __future__ import annotations

import pytest
import yaml

from recbole_evcf.comparison import runner
from recbole_evcf.comparison.conduct import conduct
from recbole_evcf.comparison.overrides import parse_models
from recbole_evcf.comparison.plan import make_plan
from recbole_evcf.comparison.worker import execute
from recbole_evcf.results import write_sealed


@pytest.fixture
def in_process(monkeypatch):
    """Let runs take place in this process; the list has the labels of those that did."""
    ran = []

    def run_here(run, store):
        ran.append(run.entry.label)
        paths = store.paths(run)
        try:
            result = execute(run.request, paths["per_user"], run.settings)
        except Exception as error:
            return str(error)
        write_sealed(paths["result"], {"settings": run.settings, **result})
        return None

    monkeypatch.setattr(runner, "_run", run_here)
    return ran


@pytest.fixture
def sg(tiny) -> dict:
    """The tiny data set by strong generalization."""
    return {
        **tiny,
        "eval_args": {
            "split": {"SG": [0.5, 0.2, 0.3]},
            "order": "RO",
            "group_by": "user",
            "mode": "full",
        },
        "metrics": ["NDCG", "Recall"],
        "topk": [3, 10],
        "valid_metric": "NDCG@10",
    }


@pytest.fixture
def compared(in_process, tmp_path):
    """A function that compares models on the tiny data set; its outcome."""

    def compare(models, settings, seeds=(), baseline=None, folder="out"):
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        entries = parse_models(models)
        plan = make_plan(entries, "tiny", [str(tmp_path / "tiny.yaml")], {}, seeds)
        folder = str(tmp_path / folder)
        return conduct(plan, folder, baseline or entries[0].label, lambda line: None)

    return compare
