"""The paper's tables as data, and the checks on what it reads from them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_evcf.comparison.outcome import Outcome
from recbole_evcf.comparison.paper import (
    TABLES,
    check_claims,
    paper_table,
    reproduction_text,
    write_reproduction,
)
from recbole_evcf.comparison.plan import Plan, Run


def test_figures_are_the_papers():
    """A few by hand, from Table 1 and Table 2."""
    ours = paper_table("table1", "ml-20m", quick=False).figures
    assert list(ours) == ["ml-20m"]
    assert ours["ml-20m"].xs("H+Vamp (Gated)", level=1).to_list() == [0.44522, 0.55109, 0.41308]
    table = paper_table("table1", "other", quick=False)
    assert table.figures.loc[("truncatedrecall@50", "SLIM"), "netflix"] == 0.428
    assert table.errors == {"ml-20m": 0.002, "netflix": 0.001}
    second = paper_table("table2", "ml-20m", quick=False).figures
    assert list(second) == ["netflix"]
    assert second["netflix"]["ndcg@100", "H+Vamp, 2 layers"] == 0.37970


@pytest.mark.parametrize("name", TABLES)
def test_every_statement_holds_in_the_paper(name):
    table = paper_table(name, "other", quick=False)
    figures = table.figures.loc[table.metrics[0]]
    for claim in table.claims:
        assert (figures.loc[claim["better"]] > figures.loc[claim["worse"]]).all(), claim["says"]


def test_the_tables_agree_where_they_show_the_same_model():
    by_files = []
    for name in TABLES:
        table = paper_table(name, "netflix", quick=False)
        figures = table.figures["netflix"]["ndcg@100"]
        by_files.append({spec.config_files: figures[spec.label] for spec in table.specs})
    first, second = by_files
    shared = first.keys() & second.keys()
    assert len(shared) == 5
    assert {files: first[files] for files in shared} == {files: second[files] for files in shared}


def test_what_was_tuned_for_a_data_set_is_read_after_the_row():
    first, own = "protocol/strong_generalization", "paper/h_vamp_gated_2"
    last = paper_table("table1", "netflix", quick=False).specs[-1]
    tuned = "paper/netflix/h_vamp_gated_2"
    assert last.config_files == (first, "dataset/netflix", own, tuned)
    last = paper_table("table1", "other", quick=True).specs[-1]
    assert last.config_files == (first, own, "paper/quick")


def outcome_of(table, shifts, dataset="ml-100k", n_users=200):
    """Models whose values of the users are one list, moved by ``shifts`` and a little noise."""
    rng = np.random.default_rng(0)
    base = rng.random(n_users)
    users = {
        spec.label: pd.DataFrame(
            dict.fromkeys(table.metrics, base + shifts[spec.label] + rng.normal(0, 0.05, n_users))
        )
        for spec in table.specs
        if spec.label in shifts
    }
    rows = {
        label: {**frame.mean(), **frame.sem().add_suffix("_se")} for label, frame in users.items()
    }
    values = pd.DataFrame.from_dict(rows, "index").reindex([spec.label for spec in table.specs])
    values.index.name = "model"
    settings = {
        "dataset": dataset,
        "metrics": ["NDCG", "TruncatedRecall"],
        "topk": [20, 50, 100],
        "eval_args": {"split": {"SG": [8, 1, 1]}},
        "split_seed": 1,
        "valid_metric": "NDCG@100",
    }
    plan = Plan(table.specs, (1,), (Run(table.specs[0], 1, settings, {}),), "Mult-VAE")
    result = {"n_test_users": n_users, "curve": [], "smaller_is_better": []}
    runs = [(label, 1, result) for label in users]
    return Outcome(plan, runs, [], users, plan.metrics, values, pd.DataFrame())


def test_verdicts_follow_the_paired_differences():
    table = paper_table("table1", "ml-100k", quick=False)
    shifts = {"Mult-VAE": 0, "Vamp": 0.2, "H+Vamp": 0.1}
    shifts |= {"Mult-VAE (Gated)": 0.2, "H+Vamp (Gated)": 0.1}
    checks = check_claims(outcome_of(table, shifts), table).set_index("statement")
    assert checks.loc["A VampPrior beats the standard normal prior", "verdict"] == "holds"
    assert checks.loc["A second latent level helps", "verdict"] == "does not hold"
    assert "not significantly" in checks.loc["Gating helps H+Vamp", "verdict"]
    assert checks.loc["Gating helps Mult-VAE", "ours"] == pytest.approx(0.2, abs=0.02)
    assert checks.loc["Gating helps Mult-VAE", "netflix"] == pytest.approx(0.0053)
    assert {"ml-20m", "ml-20m_se", "netflix", "netflix_se"} <= set(checks)


@pytest.mark.parametrize(("n_users", "first"), [(200, "holds"), (1, "cannot be said")])
def test_a_statement_on_a_failed_model_or_one_test_user_cannot_be_said(n_users, first, monkeypatch):
    table = paper_table("table1", "netflix", quick=True)
    outcome = outcome_of(table, {"Mult-VAE": 0, "Vamp": 0.2}, "netflix", n_users)
    checks = check_claims(outcome, table)
    assert checks["verdict"].tolist() == [first] + ["cannot be said"] * 4
    assert checks["ours"].notna().tolist() == [True] + [False] * 4
    assert checks["p"].notna().tolist() == [first == "holds"] + [False] * 4
    text = reproduction_text(outcome, table)
    assert "few epochs" in text
    assert "nan" not in text
    # They have tests of their own.
    monkeypatch.setattr("recbole_evcf.comparison.paper.write_tables", lambda *args: None)
    monkeypatch.setattr("recbole_evcf.comparison.paper.sections", lambda outcome: [])
    write_reproduction(outcome, table, ".", "command")
    frame = pd.read_csv("table1-beside-paper.csv").set_index(["metric", "model"])
    assert len(frame) == 8 * 3
    ours = frame.loc[("ndcg@100", "Vamp")]
    assert ours["ours"] == pytest.approx(outcome.values.loc["Vamp", "ndcg@100"])
    assert ours["netflix"] == 0.39589
    # Strict JSON: no NaN.
    text = Path("table1-beside-paper.json").read_text()
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["statements"][1]["verdict"] == "cannot be said"
    assert content["figures"][0]["ours"] is None
    assert "| Vamp" in Path("table1-beside-paper.md").read_text(encoding="utf-8")


def test_on_the_papers_own_data_the_difference_is_beside():
    table = paper_table("table1", "netflix", quick=False)
    lines = reproduction_text(outcome_of(table, {"Vamp": 0}, "netflix"), table).splitlines()
    assert lines[1].split("  ")[-1] == "ours - paper"
    ours, _, ours_se, paper, _, paper_se, off, _, off_se = map(number, lines[7].split()[1:])
    assert (paper, paper_se) == (0.3959, 0.001)
    assert off == pytest.approx(ours - paper, abs=2e-4)
    assert off_se == pytest.approx((ours_se**2 + 0.001**2) ** 0.5, abs=1e-4)


def number(word):
    return word if word == "±" else float(word)
