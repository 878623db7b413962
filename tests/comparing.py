"""Comparisons without processes of their own, which take seconds each to start."""

from __future__ import annotations

import pytest
import yaml

from recbole_evcf.comparison import compare
from recbole_evcf.comparison.compare import finish_plan
from recbole_evcf.comparison.plan import make_plan, parse_models
from recbole_evcf.comparison.worker import execute


@pytest.fixture
def in_process(monkeypatch):
    """Let runs take place in this process; the list has the labels of those that did."""
    ran = []

    def run_here(run, kept):
        ran.append(run.spec.label)
        try:
            result = execute(run.request, kept.path(run, ".users.csv"), run.settings)
        except Exception as error:
            return str(error)
        kept.store.put(run.name, run.settings, result)
        return None

    monkeypatch.setattr(compare, "run_in_process", run_here)
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
        specs = parse_models(models)
        plan = make_plan(specs, "tiny", [str(tmp_path / "tiny.yaml")], {}, seeds)
        folder = str(tmp_path / folder)
        return finish_plan(plan, folder, baseline or specs[0].label, lambda line: None)

    return compare
