"""Our values next to the paper's, and the paper's claims on the order of the models."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from recbole_evcf.comparison.outcome import Outcome
from recbole_evcf.comparison.paper import Claim, PaperTable
from recbole_evcf.comparison.significance import compare_paired, holm
from recbole_evcf.report.page import Report, Section
from recbole_evcf.report.table import Table
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = [
    "ClaimCheck",
    "beside_paper",
    "check_claims",
    "claims_table",
    "metric_table",
    "note",
    "reproduction_text",
    "sections",
    "write_reproduction",
]

LEVEL = 0.05


@dataclass(frozen=True)
class ClaimCheck:
    """Whether a claim of the paper holds for our values.

    Attributes:
        claim: the paper's.
        difference: of the better model's first metric from the worse one's; None if one failed.
        standard_error: of the mean of the users' paired differences.
        p_corrected: of the paired t-test, by Holm's method for the statements of the table.
        paper: by data set, the paper's difference.
        text: ``holds``, ``holds, not significantly``, ``does not hold``, ``does not hold, not
            significantly``, or ``cannot be said``, as of one test user.
    """

    claim: Claim
    difference: float | None
    standard_error: float | None
    p_corrected: float | None
    paper: dict[str, float]
    text: str


def check_claims(outcome: Outcome, table: PaperTable) -> list[ClaimCheck]:
    """Check each claim of a table, by the users' paired differences."""
    metric = table.metrics[0]
    values = {
        model.label: model.per_user[metric]
        for model in outcome.finished
        if metric in model.per_user
    }
    tested = {
        claim: compare_paired(values[claim.better], values[claim.worse])
        for claim in table.claims
        if claim.better in values and claim.worse in values
    }
    corrected = dict(zip(tested, holm(np.array([test[-1] for test in tested.values()]))))
    return [
        _check(claim, tested.get(claim), corrected.get(claim), table, outcome)
        for claim in table.claims
    ]


def _check(
    claim: Claim,
    test: tuple[float, ...] | None,
    p: float | None,
    table: PaperTable,
    outcome: Outcome,
) -> ClaimCheck:
    metric = table.metrics[0]
    paper = {
        data: table.figures[data][claim.better][metric] - table.figures[data][claim.worse][metric]
        for data in table.beside(outcome.plan.dataset)
    }
    if test is None or p is None:
        return ClaimCheck(claim, None, None, None, paper, "cannot be said")
    difference, error = test[0], test[1]
    if math.isnan(p):
        return ClaimCheck(claim, difference, None, None, paper, "cannot be said")
    text = "holds" if difference > 0 else "does not hold"
    if p >= LEVEL:
        text += ", not significantly"
    return ClaimCheck(claim, difference, error, float(p), paper, text)


def beside_paper(outcome: Outcome, table: PaperTable) -> pd.DataFrame:
    """Return one row per model and metric, unrounded.

    Columns: ``model``, ``metric``, ``ours``, ``ours_se``; for each data set of the paper its
    figure, and its ``_se``.
    """
    rows = []
    for metric in table.metrics:
        for model in outcome.models:
            row = {
                "model": model.label,
                "metric": metric,
                "ours": model.test.get(metric),
                "ours_se": model.standard_error.get(metric),
            }
            for data in table.beside(outcome.plan.dataset):
                row[data] = table.figures[data][model.label][metric]
                row[f"{data}_se"] = table.data_sets[data].standard_error
            rows.append(row)
    return pd.DataFrame(rows)


def metric_table(outcome: Outcome, table: PaperTable, metric: str) -> Table:
    """Return our values next to the paper's, for one metric."""
    frame = beside_paper(outcome, table).query("metric == @metric").drop(columns="metric")
    data_sets = table.beside(outcome.plan.dataset)
    if outcome.plan.dataset in table.figures:
        paper = data_sets[0]
        frame["off"] = frame["ours"] - frame[paper]
        # Different users, so the errors are independent.
        frame["off_se"] = np.hypot(frame["ours_se"].astype(float), frame[f"{paper}_se"])
    failed = {m.label for m in outcome.models if m.failures and not m.results}
    frame["ours"] = frame["ours"].astype(object).mask(frame["model"].isin(failed), "failed")
    names = {data: f"paper, {table.data_sets[data].name}" for data in data_sets}
    names |= {"ours": f"ours, {outcome.plan.dataset}", "off": "ours - paper"}
    return Table(frame, names, {"off": "+.4f"})


def claims_table(checks: list[ClaimCheck], table: PaperTable) -> Table:
    """Return one row per claim and whether it holds."""
    rows = []
    for check in checks:
        row = {
            "statement": check.claim.says,
            "ours": check.difference,
            "ours_se": check.standard_error,
        }
        for data, difference in check.paper.items():
            row[data] = difference
            # The difference of two values, treated as independent.
            row[f"{data}_se"] = math.sqrt(2) * table.data_sets[data].standard_error
        rows.append({**row, "p": check.p_corrected, "verdict": check.text})
    names = {data: f"paper, {about.name}" for data, about in table.data_sets.items()}
    signed = dict.fromkeys(["ours", *table.data_sets], "+.4f")
    return Table(pd.DataFrame(rows), {**names, "p": "corrected p"}, {**signed, "p": "p"})


def note(outcome: Outcome, table: PaperTable) -> str:
    """Explain what the checks of the claims are based on."""
    text = (
        f"Differences in {outcome.plan.metrics[table.metrics[0]]}, with the standard error of the "
        f"mean over {outcome.n_users():,} test users of their paired differences; the paper's with "
        "the standard error of two independent figures. A statement holds, or does not, "
        "significantly if Student's paired t-test says so at 0.05 after Holm's correction for the "
        "statements of the table."
    )
    warning = " These models were trained for a few epochs: the figures show the command, no more."
    return text + (warning if table.quick else "")


def sections(outcome: Outcome, table: PaperTable, checks: list[ClaimCheck]) -> list[Section]:
    """Return our values next to the paper's, by metric, and the checks."""
    return [
        *(
            Section(outcome.plan.metrics.get(key, key), [metric_table(outcome, table, key)], 3)
            for key in table.metrics
        ),
        Section("Statements of the paper", [claims_table(checks, table), note(outcome, table)]),
    ]


def reproduction_text(outcome: Outcome, table: PaperTable, checks: list[ClaimCheck]) -> str:
    """Return our values next to the paper's, and the checks, for a terminal."""
    blocks = [
        f"{part.title}\n{shown.text()}"
        for part in sections(outcome, table, checks)
        for shown in part.parts
        if isinstance(shown, Table)
    ]
    return "\n\n".join([*blocks, note(outcome, table)])


def write_reproduction(
    outcome: Outcome, table: PaperTable, checks: list[ClaimCheck], folder: str, name: str
) -> None:
    """Write ``name.csv``, ``.json`` and ``.md``, each atomically."""
    frame = beside_paper(outcome, table)
    with atomic_write(f"{folder}/{name}.csv") as temporary:
        frame.to_csv(temporary, index=False)
    figures = frame.astype(object).where(frame.notna(), None).to_dict("records")
    content = {"dataset": outcome.plan.dataset, "figures": figures, "note": note(outcome, table)}
    write_json(
        f"{folder}/{name}.json", {**content, "statements": [asdict(each) for each in checks]}
    )
    Report("Beside the paper", sections(outcome, table, checks)).write_markdown(
        f"{folder}/{name}.md"
    )
