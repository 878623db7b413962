"""The paper's tables as data, and the checks on what it reads from them."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from recbole_evcf.comparison.paper import TABLES, paper_table
from recbole_evcf.comparison.reproduction import (
    beside_paper,
    check_claims,
    metric_table,
    reproduction_text,
    write_reproduction,
)


def test_figures_are_the_papers():
    """A few by hand, from Table 1 and Table 2."""
    table = paper_table("table1", "ml-20m", quick=False)
    assert table.figures["ml-20m"]["H+Vamp (Gated)"] == {
        "ndcg@100": 0.44522,
        "truncatedrecall@50": 0.55109,
        "truncatedrecall@20": 0.41308,
    }
    assert table.figures["netflix"]["SLIM"]["truncatedrecall@50"] == 0.428
    assert table.data_sets["netflix"].standard_error == 0.001
    second = paper_table("table2", "netflix", quick=False)
    assert list(second.figures) == ["netflix"]
    assert second.figures["netflix"]["H+Vamp, 2 layers"] == {"ndcg@100": 0.37970}


@pytest.mark.parametrize("name", TABLES)
def test_every_statement_holds_in_the_paper(name):
    table = paper_table(name, "netflix", quick=False)
    for claim in table.claims:
        for figures in table.figures.values():
            better, worse = figures[claim.better], figures[claim.worse]
            assert better[table.metrics[0]] > worse[table.metrics[0]], claim.says


def test_the_tables_agree_where_they_show_the_same_model():
    first = paper_table("table1", "netflix", quick=False)
    second = paper_table("table2", "netflix", quick=False)
    by_files = {spec.config_files: spec.label for spec in second.specs}
    shared = [spec for spec in first.specs if spec.config_files in by_files]
    assert len(shared) == 5
    for spec in shared:
        theirs = second.figures["netflix"][by_files[spec.config_files]]
        assert first.figures["netflix"][spec.label]["ndcg@100"] == theirs["ndcg@100"]


def test_what_was_tuned_for_a_data_set_is_read_after_the_row():
    last = paper_table("table1", "netflix", quick=False).specs[-1]
    assert last.config_files == ("paper/h_vamp_gated_2", "paper/netflix/h_vamp_gated_2")
    last = paper_table("table1", "other", quick=True).specs[-1]
    assert last.config_files == ("paper/h_vamp_gated_2", "paper/quick")


def fake_outcome(table, shifts, dataset="ml-100k"):
    """Models whose values of 200 users are one list, moved by ``shifts`` and a little noise."""
    rng = np.random.default_rng(0)
    base = rng.random(200)
    models = []
    for spec in table.specs:
        frame = pd.DataFrame()
        if spec.label in shifts:
            values = base + shifts[spec.label] + rng.normal(0, 0.05, 200)
            frame = pd.DataFrame(dict.fromkeys(table.metrics, values))
        models.append(
            SimpleNamespace(
                label=spec.label,
                per_user=frame,
                test={metric: frame[metric].mean() for metric in frame},
                standard_error={metric: frame[metric].sem() for metric in frame},
                results={1: {}} if len(frame) else {},
                failures={} if len(frame) else {1: "out of memory"},
            )
        )
    plan = SimpleNamespace(dataset=dataset, metrics={metric: metric for metric in table.metrics})
    finished = [model for model in models if model.results]
    return SimpleNamespace(plan=plan, models=models, finished=finished, n_users=lambda: 200)


def test_verdicts_follow_the_paired_differences():
    table = paper_table("table1", "ml-100k", quick=False)
    shifts = {
        "Mult-VAE": 0,
        "Vamp": 0.2,
        "H+Vamp": 0.1,
        "Mult-VAE (Gated)": 0.2,
        "H+Vamp (Gated)": 0.1,
    }
    checks = {v.claim.says: v for v in check_claims(fake_outcome(table, shifts), table)}
    assert checks["A VampPrior beats the standard normal prior"].text == "holds"
    assert checks["A second latent level helps"].text == "does not hold"
    assert "not significantly" in checks["Gating helps H+Vamp"].text
    assert checks["Gating helps Mult-VAE"].difference == pytest.approx(0.2, abs=0.02)
    assert checks["Gating helps Mult-VAE"].paper["netflix"] == pytest.approx(0.0053)


def test_a_statement_on_a_failed_model_cannot_be_told(tmp_path):
    table = paper_table("table1", "netflix", quick=True)
    outcome = fake_outcome(table, {"Mult-VAE": 0, "Vamp": 0.2}, "netflix")
    checks = check_claims(outcome, table)
    assert [v.text for v in checks] == ["holds"] + ["cannot be said"] * 4
    text = reproduction_text(outcome, table, checks)
    assert "failed" in text
    assert "few epochs" in text
    write_reproduction(outcome, table, checks, str(tmp_path), "t")
    frame = pd.read_csv(tmp_path / "t.csv")
    assert len(frame) == 8 * 3
    ours = frame[(frame["model"] == "Vamp") & (frame["metric"] == "ndcg@100")].iloc[0]
    assert ours["ours"] == pytest.approx(outcome.models[4].test["ndcg@100"])
    assert ours["netflix"] == 0.39589
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["statements"][1]["text"] == "cannot be said"
    assert content["figures"][0]["ours"] is None
    assert "| Vamp" in (tmp_path / "t.md").read_text(encoding="utf-8")


def test_a_statement_on_one_test_user_cannot_be_said(tmp_path):
    table = paper_table("table1", "ml-100k", quick=False)
    outcome = fake_outcome(table, {"Mult-VAE": 0, "Vamp": 0.2})
    for model in outcome.models:
        model.per_user = model.per_user.head(1)
    checks = check_claims(outcome, table)
    assert {v.text for v in checks} == {"cannot be said"}
    (vamp,) = [v for v in checks if v.difference is not None]
    assert vamp.difference == pytest.approx(0.2, abs=0.2)
    assert (vamp.standard_error, vamp.p_corrected) == (None, None)
    assert "nan" not in reproduction_text(outcome, table, checks)
    write_reproduction(outcome, table, checks, str(tmp_path), "t")
    assert "NaN" not in (tmp_path / "t.json").read_text()


def test_on_the_papers_own_data_the_difference_stands_beside():
    table = paper_table("table1", "netflix", quick=False)
    shown = metric_table(fake_outcome(table, {"Vamp": 0}, "netflix"), table, "ndcg@100")
    header = [column.heading for column in shown.columns()]
    assert header == ["model", "ours, netflix", "paper, Netflix", "ours - paper"]
    vamp = [column.cells[4][0] for column in shown.columns()]
    assert vamp[0] == "Vamp"
    ours, paper = float(vamp[1].split()[0]), float(vamp[2].split()[0])
    assert float(vamp[3].split()[0]) == pytest.approx(ours - paper, abs=2e-4)
    own = float(vamp[1].split()[2])
    assert float(vamp[3].split()[2]) == pytest.approx((own**2 + 0.001**2) ** 0.5, abs=1e-4)


def test_elsewhere_all_of_the_papers_data_sets_stand_beside():
    table = paper_table("table1", "ml-100k", quick=False)
    frame = beside_paper(fake_outcome(table, {}), table)
    assert {"ml-20m", "ml-20m_se", "netflix", "netflix_se"} <= set(frame.columns)
