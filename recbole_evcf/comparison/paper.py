"""The paper's tables as data, and a comparison beside them: its values and its claims."""

from __future__ import annotations

import math
import os
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

__all__ = ["TABLES", "PaperTable", "beside_paper", "check_claims", "paper_table"]
__all__ += ["reproduction_text", "write_reproduction"]

TABLES = ("table1", "table2")


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, its rows to be trained with the published settings."""

    name: str
    specs: tuple[ModelSpec, ...]
    # Keys of RecBole's results.
    metrics: tuple[str, ...]
    # By data set, by label of the row, by metric.
    figures: dict[str, dict[str, dict[str, float]]]
    # By RecBole's name, the paper's "name" and the "standard_error" of its figures, about.
    data_sets: dict[str, dict[str, Any]]
    # What the paper "says": one model is "better" and another "worse".
    claims: list[dict[str, str]]
    # Whether the settings are those of a short run.
    quick: bool

    def beside(self, dataset: str) -> list[str]:
        """Return the data sets whose values are shown for a data set: its own, otherwise all."""
        return [dataset] if dataset in self.figures else list(self.figures)


def paper_table(name: str, dataset: str, quick: bool) -> PaperTable:
    """Read one of :data:`TABLES` from ``properties/paper/``.

    What the paper tuned for the data set that it will be trained on is read after the settings of
    a row, and those of a short run last if it is to be ``quick``.
    """
    published = _read("paper/published")
    table, metrics = published["tables"][name], tuple(published["tables"][name]["metrics"])
    specs = []
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for row in table["rows"]:
        files = [f"paper/{row['settings']}", f"paper/{dataset}/{row['settings']}"]
        files = [*filter(shipped_file, files), *(["paper/quick"] if quick else [])]
        specs.append(ModelSpec(row["label"], _read(files[0])["model"], config_files=tuple(files)))
        for data in filter(row.__contains__, published["data_sets"]):
            figures.setdefault(data, {})[row["label"]] = dict(zip(metrics, row[data]))
    data_sets, claims = published["data_sets"], table["statements"]
    return PaperTable(name, tuple(specs), metrics, figures, data_sets, claims, quick)


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((properties_path() / f"{name}.yaml").read_text(encoding="utf-8"))


def beside_paper(outcome: Outcome, table: PaperTable) -> pd.DataFrame:
    """Return a row per metric and model, unrounded: ``model``, ``metric``, ``ours``, ``ours_se``;
    for each data set of the paper its figure, and its ``_se``."""
    frames = []
    for metric in table.metrics:
        ours = {metric: "ours", metric + SE_SUFFIX: "ours_se"}
        frame = outcome.values.reindex(columns=list(ours)).rename(columns=ours).reset_index()
        frame.insert(1, "metric", metric)
        for data in table.beside(outcome.dataset):
            frame[data] = [table.figures[data][label][metric] for label in frame["model"]]
            frame[data + SE_SUFFIX] = table.data_sets[data]["standard_error"]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


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
        pair = (claim["better"], claim["worse"])
        test = paired_test(*(known[label] for label in pair)) if known.keys() >= {*pair} else {}
        row: dict[str, Any] = {"statement": claim["says"], "ours": test.get("difference")}
        row["ours_se"] = test.get("standard_error")
        for data in table.beside(outcome.dataset):
            better, worse = (table.figures[data][label][metric] for label in pair)
            row[data] = better - worse
            # Of the difference of two values, treated as independent.
            row[data + SE_SUFFIX] = math.sqrt(2) * table.data_sets[data]["standard_error"]
        rows.append({**row, "p": test.get("p_value")})
    found = pd.DataFrame(rows).astype({"ours": float, "ours_se": float, "p": float})
    tested = found["p"].notna()
    found.loc[tested, "p"] = holm(found.loc[tested, "p"].to_numpy())
    found["verdict"] = np.where(found["ours"] > 0, "holds", "does not hold")
    found.loc[found["p"] >= LEVEL, "verdict"] += ", not significantly"
    found.loc[~tested, "verdict"] = "cannot be said"
    return found


def metric_table(outcome: Outcome, table: PaperTable, metric: str) -> Table:
    """Return our values next to the paper's, for one metric."""
    frame = beside_paper(outcome, table).query("metric == @metric").drop(columns="metric")
    dataset = outcome.dataset
    if dataset in table.figures:
        frame["off"] = frame["ours"] - frame[dataset]
        # Different users, so the errors are independent.
        frame["off_se"] = np.hypot(frame["ours_se"], frame[dataset + SE_SUFFIX])
    failed = ~frame["model"].isin(list(outcome.users))
    frame["ours"] = frame["ours"].astype(object).mask(failed, "failed")
    names = {data: f"paper, {table.data_sets[data]['name']}" for data in table.beside(dataset)}
    names |= {"ours": f"ours, {dataset}", "off": "ours - paper"}
    return Table(frame, names, {"off": "+.4f"})


def reproduction_text(outcome: Outcome, table: PaperTable) -> str:
    """Return our values next to the paper's, and the checks, for a terminal."""
    blocks = [
        f"{section.title}\n{part.text()}"
        for section in _sections(outcome, table)
        for part in section.parts
        if isinstance(part, Table)
    ]
    return "\n\n".join([*blocks, _note(outcome, table)])


def _sections(outcome: Outcome, table: PaperTable) -> list[Section]:
    names = {data: f"paper, {about['name']}" for data, about in table.data_sets.items()}
    formats = {**dict.fromkeys(["ours", *names], "+.4f"), "p": "p"}
    claims = Table(check_claims(outcome, table), {**names, "p": "corrected p"}, formats)
    note = _note(outcome, table)
    return [
        *(
            Section(outcome.plan.metrics.get(key, key), [metric_table(outcome, table, key)], 3)
            for key in table.metrics
        ),
        Section("Statements of the paper", [claims, note]),
    ]


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
    figures, claims = beside_paper(outcome, table), check_claims(outcome, table)
    with atomic_write(f"{path}-beside-paper.csv") as temporary:
        figures.to_csv(temporary, index=False)
    content = {
        "dataset": outcome.dataset,
        "figures": figures.to_dict("records"),
        "note": _note(outcome, table),
        "statements": claims.to_dict("records"),
    }
    write_json(f"{path}-beside-paper.json", content)
    beside = _sections(outcome, table)
    Report("Beside the paper", beside).write_markdown(f"{path}-beside-paper.md")
    title = f"{table.name.replace('table', 'Table ')} of Kim & Suh (2019)"
    parts = [Section("Beside the paper", []), *beside, *sections(outcome)]
    page = Report(f"{title} on {outcome.dataset}", [*parts, Section("Command", [command])])
    page.write_html(f"{path}.html")
    return f"{path}.html"
