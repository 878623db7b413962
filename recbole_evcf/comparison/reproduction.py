"""Our figures beside the paper's, and the paper's statements on the order of the models."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from recbole_evcf.comparison.outcome import ModelOutcome, Outcome
from recbole_evcf.comparison.paper import PaperTable, Statement
from recbole_evcf.comparison.significance import compare_paired, holm
from recbole_evcf.comparison.tables import markdown_table, p_text, text_table
from recbole_evcf.evaluator.per_user import with_error
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = [
    "Verdict",
    "beside_paper",
    "judge",
    "metric_rows",
    "note",
    "reproduction_text",
    "verdict_rows",
    "write_reproduction",
]

LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether a statement of the paper holds for our figures.

    Attributes:
        statement: the paper's.
        difference: of the better model's first metric from the worse one's; None if one failed.
        standard_error: of the mean of the users' paired differences.
        p_corrected: of the paired t-test, by Holm's method for the statements of the table.
        paper: by data set, the paper's difference.
        text: ``holds``, ``holds, not significantly``, ``does not hold``, ``does not hold, not
            significantly``, or ``cannot be said``, as of one test user.
    """

    statement: Statement
    difference: float | None
    standard_error: float | None
    p_corrected: float | None
    paper: dict[str, float]
    text: str


def judge(outcome: Outcome, table: PaperTable) -> list[Verdict]:
    """A verdict on each statement of a table, by the users' paired differences."""
    metric = table.metrics[0]
    values = {
        model.label: model.per_user[metric]
        for model in outcome.finished
        if metric in model.per_user
    }
    tested = {
        statement: compare_paired(values[statement.better], values[statement.worse])
        for statement in table.statements
        if statement.better in values and statement.worse in values
    }
    corrected = dict(zip(tested, holm(np.array([test[-1] for test in tested.values()]))))
    return [
        _verdict(statement, tested.get(statement), corrected.get(statement), table, outcome)
        for statement in table.statements
    ]


def _verdict(statement, test, p, table: PaperTable, outcome: Outcome) -> Verdict:
    metric = table.metrics[0]
    paper = {
        data: table.figures[data][statement.better][metric]
        - table.figures[data][statement.worse][metric]
        for data in table.beside(outcome.plan.dataset)
    }
    if test is None:
        return Verdict(statement, None, None, None, paper, "cannot be said")
    difference, error = test[0], test[1]
    if math.isnan(p):
        return Verdict(statement, difference, None, None, paper, "cannot be said")
    text = "holds" if difference > 0 else "does not hold"
    if p >= LEVEL:
        text += ", not significantly"
    return Verdict(statement, difference, error, float(p), paper, text)


def beside_paper(outcome: Outcome, table: PaperTable) -> pd.DataFrame:
    """A row for each model and metric, unrounded.

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


def metric_rows(outcome: Outcome, table: PaperTable, metric: str) -> tuple[list, list]:
    """Header and rows of a table that has ours beside the paper's, for one metric."""
    data_sets = table.beside(outcome.plan.dataset)
    own = outcome.plan.dataset in table.figures
    header = ["model", f"ours, {outcome.plan.dataset}"]
    header += [f"paper, {table.data_sets[data].name}" for data in data_sets]
    header += ["ours - paper"] if own else []
    rows = []
    for model in outcome.models:
        row = [model.label, _ours(model, metric)]
        for data in data_sets:
            figure = table.figures[data][model.label][metric]
            row.append(with_error(figure, table.data_sets[data].standard_error))
        if own:
            row.append(_off(model, metric, table, data_sets[0]))
        rows.append(row)
    return header, rows


def _ours(model: ModelOutcome, metric: str) -> str:
    if metric not in model.test:
        return "failed" if model.failures and not model.results else "–"
    return with_error(model.test[metric], model.standard_error.get(metric))


def _off(model: ModelOutcome, metric: str, table: PaperTable, data: str) -> str:
    if metric not in model.test:
        return "–"
    difference = model.test[metric] - table.figures[data][model.label][metric]
    # Two runs on different users: the errors are independent.
    ours = model.standard_error.get(metric, math.nan)
    return with_error(difference, math.hypot(ours, table.data_sets[data].standard_error), sign="+")


def verdict_rows(verdicts: list[Verdict], table: PaperTable) -> tuple[list, list]:
    """Header and rows of a table of verdicts."""
    data_sets = {data: table.data_sets[data] for verdict in verdicts for data in verdict.paper}
    header = ["statement", "ours", *(f"paper, {data.name}" for data in data_sets.values())]
    rows = []
    for verdict in verdicts:
        known = verdict.difference is not None
        ours = with_error(verdict.difference, verdict.standard_error, sign="+") if known else "–"
        # Of two figures with an error each, as if they were independent.
        paper = [
            with_error(verdict.paper[key], math.sqrt(2) * data.standard_error, sign="+")
            for key, data in data_sets.items()
        ]
        p = "–" if verdict.p_corrected is None else p_text(verdict.p_corrected)
        rows.append([verdict.statement.says, ours, *paper, p, verdict.text])
    return [*header, "corrected p", "verdict"], rows


def note(outcome: Outcome, table: PaperTable) -> str:
    """What the verdicts rest on."""
    text = (
        f"Differences in {outcome.plan.metrics[table.metrics[0]]}, with the standard error of the "
        f"mean over {outcome.n_users():,} test users of their paired differences; the paper's with "
        "the standard error of two independent figures. A statement holds, or does not, "
        "significantly if Student's paired t-test says so at 0.05 after Holm's correction for the "
        "statements of the table."
    )
    warning = " These models were trained for a few epochs: the figures show the command, no more."
    return text + (warning if table.quick else "")


def reproduction_text(outcome: Outcome, table: PaperTable, verdicts: list[Verdict]) -> str:
    """Ours beside the paper's and the verdicts, for a terminal."""
    parts = []
    for metric in table.metrics:
        header, rows = metric_rows(outcome, table, metric)
        parts.append(f"{_name(outcome, metric)}\n{text_table(header, rows)}")
    header, rows = verdict_rows(verdicts, table)
    return "\n\n".join([*parts, text_table(header, rows), note(outcome, table)])


def write_reproduction(
    outcome: Outcome, table: PaperTable, verdicts: list[Verdict], folder: str, name: str
) -> None:
    """Write ``name.csv``, ``.json`` and ``.md``, each whole or not at all."""
    frame = beside_paper(outcome, table)
    with atomic_write(f"{folder}/{name}.csv") as temporary:
        frame.to_csv(temporary, index=False)
    figures = frame.astype(object).where(frame.notna(), None).to_dict("records")
    content = {"dataset": outcome.plan.dataset, "figures": figures, "note": note(outcome, table)}
    write_json(
        f"{folder}/{name}.json", {**content, "statements": [asdict(each) for each in verdicts]}
    )
    path = f"{folder}/{name}.md"
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(_markdown(outcome, table, verdicts))


def _markdown(outcome: Outcome, table: PaperTable, verdicts: list[Verdict]) -> str:
    parts = []
    for metric in table.metrics:
        parts += [
            f"## {_name(outcome, metric)}",
            markdown_table(*metric_rows(outcome, table, metric)),
        ]
    parts += ["## Statements", markdown_table(*verdict_rows(verdicts, table))]
    return "\n\n".join([*parts, note(outcome, table)]) + "\n"


def _name(outcome: Outcome, metric: str) -> str:
    return outcome.plan.metrics.get(metric, metric)
