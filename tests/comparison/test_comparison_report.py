"""Tables and page, each by a second reader."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from pages import Page

from recbole_evcf.comparison.report import (
    caption,
    learning_curves,
    metric_bars,
    metric_table,
    write_comparison,
    write_tables,
)


@pytest.fixture
def outcome(compared, sg):
    models = "Pop,EASE[reg_weight='<x>'],Vamp[likelihood=bernoulli]"
    return compared(models, {**sg, "epochs": 3}, seeds=(1, 2))


def test_files_have_the_values_to_the_last_digit(outcome):
    outcome.values.loc["Pop", "valid_ndcg@3"] = float("nan")
    write_tables(outcome, ".", "comparison")
    with open("comparison.csv", encoding="utf-8", newline="") as file:
        by_csv = list(csv.DictReader(file))
    # Strict JSON: no NaN.
    content = json.loads(Path("comparison.json").read_text(), parse_constant=pytest.fail)
    assert content["models"][0]["valid_ndcg@3"] is None
    for label, row, listed in zip(outcome.values.index, by_csv, content["models"]):
        assert row["model"] == listed["label"] == label
        if label not in outcome.users:
            assert row["ndcg@10"] == ""
            assert listed["ndcg@10"] is None
            assert content["failures"][0]["reason"] == row["failure"]
            continue
        for key in [f"{k}{suffix}" for k in outcome.metrics for suffix in ("", "_se", "_seed_sd")]:
            assert float(row[key]) == listed[key] == outcome.values.loc[label, key]
        assert [run["seed"] for run in content["runs"] if run["label"] == label] == [1, 2]
        assert float(row["peak_memory_mib"]) > 1
    assert content["split_seed"] == 1
    assert len(content["comparisons"]) == 4


def test_markdown_and_latex_mark_the_best(outcome):
    write_tables(outcome, ".", "comparison")
    lines = Path("comparison.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines if line[:2] == "| "]
    for label, row in zip(outcome.users, rows[1:]):
        assert row[0].replace("\\", "") == f"| {label}"
        for cell, key in zip(row[1:], outcome.metrics):
            text = "{:.4f} ± {:.4f}".format(*outcome.values.loc[label, [key, f"{key}_se"]])
            best = label in outcome.best(key)
            assert cell.rstrip(" |") == (f"**{text}**" if best else text)
    assert "2 seeds (1, 2)" in "".join(lines)
    tests = lines[lines.index("## Against Pop") : lines.index("## Costs")]
    metrics = [line.split(" | ")[1].strip() for line in tests if line.startswith("| Vamp")]
    assert metrics[0] == "NDCG@10"
    assert tests[-2].startswith("Paired t-tests on the metrics of ")
    assert "over the test users, of each user's mean over the seeds" in caption(outcome)
    assert "one split by users (seed 1)" in caption(outcome)
    best = sum(len(outcome.best(key)) for key in outcome.metrics)
    latex = Path("comparison.tex").read_text(encoding="utf-8")
    assert latex.count(r"\mathbf") == metric_table(outcome).text().count("*") == best


def test_the_page_has_every_part(outcome):
    write_comparison(outcome, ".", "recbole-evcf compare --models='a<b'")
    page = Page("report.html")
    page.check()
    parts = ["Test metrics", "Failed", "Metrics", "Spread between the seeds", "Learning curves"]
    parts += ["Against Pop", "Costs", "Settings", "Command"]
    assert page.headings == ["Comparison on tiny", *parts]
    assert page.paragraphs[-1] == "recbole-evcf compare --models='a<b'"


def test_figures_are_of_the_means_and_of_every_epoch(outcome):
    bars, lines = metric_bars(outcome).data, learning_curves(outcome).data
    vamp = "Vamp[likelihood=bernoulli]"
    # Model by model, and for each of them chart by chart.
    assert [list(bar.y) for bar in bars] == [["Pop"]] * 4 + [[vamp]] * 4
    for label, drawn in (("Pop", bars[:4]), (vamp, bars[4:])):
        pairs = [outcome.values.loc[label, [key, f"{key}_se"]] for key in outcome.metrics]
        assert [(bar.x[0], bar.error_x.array[0]) for bar in drawn] == list(map(tuple, pairs))
    curves = [line for line in lines if line.name == vamp]
    # Four charts, two seeds.
    assert [list(line.x) for line in curves] == [[1, 2, 3]] * 8
    for line, (_, _, result) in zip(curves, outcome.runs[2:]):
        assert list(line.y) == [row["valid_score"] for row in result["curve"]]
    assert [line.showlegend for line in curves].count(True) == 1
    assert len([line for line in lines if line.name == "Pop"]) == 2


def test_files_on_nothing_but_failures(compared, sg):
    write_comparison(compared("EASE[reg_weight='x']", sg), ".", "c")
    assert Page("report.html").headings[1:] == ["Failed", "Settings", "Command"]
    assert pd.read_csv("comparison.csv")["failure"].notna().all()
