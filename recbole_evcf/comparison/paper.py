"""The paper's tables as data, and a comparison beside them: its values and its claims."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recbole_evcf.comparison.outcome import Outcome, holm, paired_test
from recbole_evcf.comparison.plan import ModelSpec
from recbole_evcf.comparison.report import LEVEL, sections, write_tables
from recbole_evcf.config.files import properties_path, shipped_file
from recbole_evcf.evaluator.metrics import SE_SUFFIX
from recbole_evcf.report.page import Report, Section
from recbole_evcf.report.table import Table
from recbole_evcf.utils.files import atomic_write, write_json

TABLES = ("table1", "table2")


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        specs: its rows, with the published settings; those of a short run if ``quick``.
        metrics: keys of RecBole's results.
        figures: by metric and model, a column for the data set that is trained on; if the paper
            does not have it, one for each of the paper's.
        headings, errors: of those columns, and about how large the errors of their figures are.
        claims: what the paper ``says``: one model is ``better`` and another ``worse``.
    """

    name: str
    specs: tuple[ModelSpec, ...]
    metrics: tuple[str, ...]
    figures: pd.DataFrame
    headings: dict[str, str]
    errors: dict[str, float]
    claims: list[dict[str, str]]
    quick: bool


def paper_table(name: str, dataset: str, quick: bool) -> PaperTable:
    """Read one of :data:`TABLES` from ``properties/paper/``, to be trained on a data set.

    What is read for a row, in this order: the protocol, the data set's file, the settings of the
    row, what the paper tuned for the data set, and if ``quick`` those of a short run.
    """
    published = _read("paper/published")
    table, about = published["tables"][name], published["data_sets"]
    metrics, specs = tuple(table["metrics"]), []
    for row in table["rows"]:
        own = row["settings"]
        names = ["protocol/strong_generalization", f"dataset/{dataset}", f"paper/{own}"]
        names += [f"paper/{dataset}/{own}", *["paper/quick"] * quick]
        model = _read(f"paper/{own}")["model"]
        specs.append(ModelSpec(row["label"], model, {}, tuple(filter(shipped_file, names))))
    cells = {
        (metric, row["label"]): {data: row[data][place] for data in about if data in row}
        for place, metric in enumerate(metrics)
        for row in table["rows"]
    }
    figures = pd.DataFrame.from_dict(cells, "index").rename_axis(["metric", "model"])
    figures = figures[[dataset]] if dataset in figures else figures
    headings = {data: f"paper, {about[data]['name']}" for data in figures}
    errors = {data: about[data]["standard_error"] for data in figures}
    claims = table["statements"]
    return PaperTable(name, tuple(specs), metrics, figures, headings, errors, claims, quick)


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((properties_path() / f"{name}.yaml").read_text(encoding="utf-8"))


def beside_paper(outcome: Outcome, table: PaperTable) -> pd.DataFrame:
    """Return a row per metric and model, unrounded: ``metric``, ``model``, ``ours``, ``ours_se``;
    for each data set of the paper its figure, and its ``_se``."""
    ours = {}
    for metric in table.metrics:
        values = outcome.values.reindex(columns=[metric, metric + SE_SUFFIX])
        ours[metric] = values.set_axis(["ours", "ours_se"], axis=1)
    frame = pd.concat(ours, names=["metric", "model"]).join(table.figures)
    return frame.assign(**_suffixed(table.errors)).reset_index()


def _suffixed(errors: Mapping[str, float], factor: float = 1) -> dict[str, float]:
    return {f"{data}{SE_SUFFIX}": factor * error for data, error in errors.items()}


def check_claims(outcome: Outcome, table: PaperTable) -> pd.DataFrame:
    """Check each claim of a table on its first metric, by the users' paired differences.

    Returns:
        a row per claim: ``statement``; ``ours``, the difference of the better model from the
        worse one, and its ``_se``, both missing if one of them failed; the same of each data set
        of the paper; ``p`` of the paired t-test, by Holm's method for the claims of the table; and
        ``verdict``: ``holds``, ``holds, not significantly``, ``does not hold``, ``does not hold,
        not significantly``, or ``cannot be said``, as of one test user.
    """
    metric, rows = table.metrics[0], []
    known = {label: users[metric] for label, users in outcome.users.items() if metric in users}
    for claim in table.claims:
        pair = claim["better"], claim["worse"]
        test = paired_test(*(known[label] for label in pair)) if known.keys() >= {*pair} else {}
        better, worse = (table.figures.loc[(metric, label)] for label in pair)
        row = {"ours": test.get("difference"), "ours_se": test.get("standard_error")}
        rows.append({**row, **(better - worse), "p": test.get("p_value")})
    found = pd.DataFrame(rows, dtype=float)
    # Of the difference of two figures, treated as independent.
    found = found.assign(**_suffixed(table.errors, math.sqrt(2)))
    found.insert(0, "statement", [claim["says"] for claim in table.claims])
    tested = found["p"].notna()
    found.loc[tested, "p"] = holm(found.loc[tested, "p"].to_numpy())
    found["verdict"] = np.where(found["ours"] > 0, "holds", "does not hold")
    found.loc[found["p"] >= LEVEL, "verdict"] += ", not significantly"
    found.loc[~tested, "verdict"] = "cannot be said"
    return found


def reproduction_text(outcome: Outcome, table: PaperTable) -> str:
    """Return our values next to the paper's, and the checks, for a terminal."""
    blocks = []
    for section in _sections(outcome, table):
        parts = [part.text() if isinstance(part, Table) else f"\n{part}" for part in section.parts]
        blocks.append("\n".join([section.title, *parts]))
    return "\n\n".join(blocks)


def _sections(outcome: Outcome, table: PaperTable) -> list[Section]:
    found = []
    dataset, names = outcome.dataset, {**table.headings, "ours": f"ours, {outcome.dataset}"}
    for metric, frame in beside_paper(outcome, table).groupby("metric", sort=False):
        if dataset in frame:
            # Different users, so the errors are independent.
            error = np.hypot(frame["ours_se"], frame[dataset + SE_SUFFIX])
            frame = frame.assign(off=frame["ours"] - frame[dataset], off_se=error)
        shown = Table(
            frame.drop(columns="metric"), {**names, "off": "ours - paper"}, {"off": "+.4f"}
        )
        found.append(Section(outcome.plan.metrics.get(metric, metric), [shown], 3))
    formats = {**dict.fromkeys(["ours", *table.headings], "+.4f"), "p": "p"}
    claims = Table(check_claims(outcome, table), {**table.headings, "p": "corrected p"}, formats)
    return [*found, Section("Statements of the paper", [claims, _note(outcome, table)])]


def _note(outcome: Outcome, table: PaperTable) -> str:
    text = (
        f"Differences in {outcome.plan.metrics[table.metrics[0]]}, with the standard error of the "
        f"mean over {outcome.n_users:,} test users of their paired differences; the paper's with "
        "the standard error of two independent figures. A statement holds, or does not, "
        "significantly if Student's paired t-test says so at 0.05 after Holm's correction for the "
        "statements of the table."
    )
    warning = " These models were trained for a few epochs: the figures show the command, no more."
    return text + (warning if table.quick else "")


def write_reproduction(outcome: Outcome, table: PaperTable, folder: str, command: str) -> str:
    """Write the tables of the comparison, ``-beside-paper.csv``, ``.json`` and ``.md``, and the
    page, which shows the ``command``, into a folder; returns the path of the page."""
    write_tables(outcome, folder, table.name)
    path = os.path.join(folder, table.name)
    figures, beside = beside_paper(outcome, table), _sections(outcome, table)
    with atomic_write(f"{path}-beside-paper.csv") as temporary:
        figures.to_csv(temporary, index=False)
    content = {
        "dataset": outcome.dataset,
        "figures": figures.to_dict("records"),
        "note": _note(outcome, table),
        "statements": check_claims(outcome, table).to_dict("records"),
    }
    write_json(f"{path}-beside-paper.json", content)
    Report("Beside the paper", beside).write_markdown(f"{path}-beside-paper.md")
    title = f"{table.name.replace('table', 'Table ')} of Kim & Suh (2019)"
    parts = [Section("Beside the paper", []), *beside, *sections(outcome)]
    page = Report(f"{title} on {outcome.dataset}", [*parts, Section("Command", [command])])
    page.write_html(f"{path}.html")
    return f"{path}.html"
