"""The tables, each by a second reader."""

import csv
import json

import pandas as pd
import pytest

from recbole_evcf.comparison.report import write_tables
from recbole_evcf.comparison.tables import caption, metric_table

MODELS = "Pop,EASE[reg_weight=2.0],Vamp[likelihood=bernoulli]"


@pytest.fixture
def outcome(compared, sg):
    return compared(MODELS, sg, seeds=(1, 2))


def test_files(outcome, tmp_path):
    write_tables(outcome, str(tmp_path), "comparison")
    with open(tmp_path / "comparison.csv", encoding="utf-8", newline="") as file:
        by_csv = list(csv.DictReader(file))
    frame = pd.read_csv(tmp_path / "comparison.csv")
    content = json.loads((tmp_path / "comparison.json").read_text())
    for model, row, read, listed in zip(
        outcome.models, frame.itertuples(index=False), by_csv, content["models"]
    ):
        assert row.model == read["model"] == listed["label"] == model.label
        for key, value in model.test.items():
            assert float(read[key]) == listed["test"][key] == value
            assert float(read[f"{key}_se"]) == model.standard_error[key]
            assert float(read[f"{key}_seed_sd"]) == model.seed_deviation[key]
        assert [run["seed"] for run in listed["runs"]] == [1, 2]
        assert float(read["peak_memory_mib"]) > 1
    assert content["split_seed"] == 1
    assert len(content["comparisons"]) == 2 * 4


def test_the_json_is_strict(compared, sg, tmp_path):
    outcome = compared("Pop,EASE[reg_weight='x']", sg)
    outcome.models[0].test["ndcg@3"] = float("nan")
    write_tables(outcome, str(tmp_path), "comparison")

    def refuse(text):
        raise AssertionError(text)

    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=refuse)
    assert content["models"][0]["test"]["ndcg@3"] is None
    assert content["models"][1]["failures"][0]["reason"]


def test_markdown_and_latex_mark_the_best(outcome, tmp_path):
    write_tables(outcome, str(tmp_path), "comparison")
    lines = (tmp_path / "comparison.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.split(" | ")]
        for line in lines
        if line.startswith(("| Pop", "| EASE", "| Vamp"))
    ][:3]
    assert rows[1][0] == r"| EASE\[reg\_weight=2.0\]"
    for column, key in enumerate(outcome.metrics, start=1):
        for row, model in zip(rows, outcome.models):
            text = f"{model.test[key]:.4f} ± {model.standard_error[key]:.4f}"
            best = model.label in outcome.best(key)
            assert row[column].rstrip(" |") == (f"**{text}**" if best else text)
    assert "2 seeds (1, 2)" in "".join(lines)
    tests = lines[lines.index("## Against Pop") :]
    metrics = [
        line.split(" | ")[1].strip() for line in tests if line.startswith(("| EASE", "| Vamp"))
    ]
    assert metrics[:2] == ["NDCG@10"] * 2
    assert tests[-1].startswith("Paired t-tests on the metrics of ")
    best = sum(len(outcome.best(key)) for key in outcome.metrics)
    latex = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    assert latex.count(r"\mathbf") == metric_table(outcome).text().count("*") == best


def test_the_caption_says_what_an_error_is(outcome, compared, sg):
    assert "over the test users, of each user's mean over the seeds" in caption(outcome)
    assert "one split by users (seed " in caption(outcome)
    one = caption(compared("Pop", sg, folder="one"))
    assert "of the users' values" in one
    assert "seeds" not in one
