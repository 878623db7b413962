"""Comparisons without processes of their own, which take seconds each to start."""

import pytest
import yaml

from build import SG
from recbole_evcf.comparison import compare
from recbole_evcf.comparison.compare import finish_plan
from recbole_evcf.comparison.plan import make_plan, parse_models
from recbole_evcf.comparison.worker import execute


@pytest.fixture
def in_process(monkeypatch):
    """Let runs take place in this process; the list has the labels of those that did."""
    ran = []

    def run_here(run, store):
        ran.append(run.spec.label)
        try:
            result = execute(run.request, str(store.path(run.name, ".users.csv")), run.settings)
        except Exception as error:
            return str(error)
        store.put(run.name, run.settings, result)
        return None

    monkeypatch.setattr(compare, "run_in_process", run_here)
    return ran


@pytest.fixture
def sg(tiny) -> dict:
    """The tiny data set by strong generalization."""
    return {
        **tiny,
        "eval_args": {**SG, "split": {"SG": [0.5, 0.2, 0.3]}},
        "metrics": ["NDCG", "Recall"],
        "topk": [3, 10],
        "valid_metric": "NDCG@10",
    }


@pytest.fixture
def planned(tmp_path):
    """A function that plans a comparison on the tiny data set, with settings from a file."""

    def plan(models, content, seeds=(), settings=None, baseline=None):
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return make_plan(parse_models(models), "tiny", [str(file)], settings, seeds, baseline)

    return plan


@pytest.fixture
def compared(in_process, planned):
    """A function that compares models on the tiny data set; its outcome."""

    def compare(models, settings, seeds=(), baseline=None, folder="out"):
        plan = planned(models, settings, seeds, baseline=baseline)
        return finish_plan(plan, folder, lambda line: None)

    return compare
