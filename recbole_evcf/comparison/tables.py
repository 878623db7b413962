"""A comparison as tables: for the terminal, as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

import pandas as pd
from texttable import Texttable

from recbole_evcf.comparison.outcome import DECIMALS, ModelOutcome, Outcome
from recbole_evcf.comparison.significance import Comparison
from recbole_evcf.evaluator.per_user import with_error
from recbole_evcf.report.page import Bold
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = [
    "about_tests",
    "as_latex",
    "as_markdown",
    "as_text",
    "caption",
    "cells",
    "markdown_table",
    "mean_epochs",
    "numbers",
    "p_text",
    "tests_in_order",
    "text_table",
    "write_tables",
]

MIB = 2**20


def write_tables(outcome: Outcome, folder: str, name: str) -> None:
    """Write ``name.csv``, ``.json``, ``.md`` and ``.tex``, each whole or not at all."""
    with atomic_write(f"{folder}/{name}.csv") as temporary:
        numbers(outcome).to_csv(temporary, index=False)
    write_json(f"{folder}/{name}.json", _content(outcome))
    for ending, text in (("md", as_markdown(outcome)), ("tex", as_latex(outcome))):
        path = f"{folder}/{name}.{ending}"
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(text)


def numbers(outcome: Outcome) -> pd.DataFrame:
    """A row for each model with all its figures, unrounded.

    Columns: ``model``, ``finished_seeds``, ``failure``; each test metric, behind it ``_se``, its
    standard error, and ``_seed_sd``; ``valid_`` and the validation metrics; the costs.
    """
    return pd.DataFrame([_row(model, outcome) for model in outcome.models])


def _row(model: ModelOutcome, outcome: Outcome) -> dict:
    row = {
        "model": model.label,
        "finished_seeds": len(model.results),
        "failure": next(iter(model.failures.values()), None),
    }
    for key in outcome.metrics:
        row[key] = model.test.get(key)
        row[f"{key}_se"] = model.standard_error.get(key)
        row[f"{key}_seed_sd"] = model.seed_deviation.get(key)
    for key in outcome.metrics:
        row[f"valid_{key}"] = model.valid.get(key)
    row["epochs"] = mean_epochs(model)
    for name in (
        "training_seconds",
        "total_seconds",
        "training_users_per_second",
        "evaluation_users_per_second",
    ):
        row[name] = model.cost(name) if model.results else None
    for name in ("memory_before", "peak_memory", "peak_gpu_memory"):
        value = model.cost(name) if model.results else None
        row[f"{name}_mib"] = None if value is None else value / MIB
    row["measured_on"] = model.measured_on
    return row


def _content(outcome: Outcome) -> dict:
    plan = outcome.plan
    return _without_nan(
        {
            "dataset": plan.dataset,
            "eval_args": plan.eval_args,
            "split_seed": plan.split_seed,
            "seeds": list(plan.seeds),
            "valid_metric": plan.valid_metric,
            "n_test_users": outcome.n_users(),
            "note": caption(outcome),
            "models": [
                {
                    "label": model.label,
                    "model": model.entry.model,
                    "settings": model.entry.settings,
                    "config_files": list(model.entry.config_files),
                    "test": model.test,
                    "standard_error": model.standard_error,
                    "seed_deviation": model.seed_deviation,
                    "valid": model.valid,
                    "runs": [{"seed": seed, **run} for seed, run in model.results.items()],
                    "failures": [
                        {"seed": seed, "reason": reason} for seed, reason in model.failures.items()
                    ],
                }
                for model in outcome.models
            ],
            "baseline": outcome.baseline,
            "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
        }
    )


def _without_nan(value):
    """JSON knows no NaN: other readers stop at it."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mean_epochs(model: ModelOutcome) -> float | None:
    """Number of epochs that a model was trained for, the mean over the seeds."""
    epochs = [len(result["curve"]) for result in model.results.values()]
    return sum(epochs) / len(epochs) if epochs else None


def caption(outcome: Outcome) -> str:
    """What the figures of the table are, and what their standard errors say."""
    plan, n_users = outcome.plan, outcome.n_users()
    kind = "by users" if "SG" in (plan.eval_args["split"] or {}) else "of interactions"
    text = (
        f"Test metrics on {plan.dataset}, one split {kind} (seed {plan.split_seed}), {n_users:,} "
        "users."
    )
    seeds = len(plan.seeds)
    if seeds > 1:
        text += f" Each figure is the mean over {seeds} seeds ({_listed(plan.seeds)})."
    if outcome.has_user_errors:
        whose = "each user's mean over the seeds" if seeds > 1 else "the users' values"
        text += (
            f" Behind ± its standard error over the test users, of {whose}: how far it would "
            "move with other users."
        )
        if seeds > 1:
            text += " The spread between seeds is on the page, and in the CSV file as _seed_sd."
    elif seeds > 1:
        text += " Behind ± its standard error over the seeds: there are no values of several users."
    return text + " The best of each column is marked."


def _listed(values) -> str:
    return ", ".join(map(str, values))


def cells(outcome: Outcome, mark: Callable[[str], str]) -> list[list[str]]:
    """Test metrics by finished model and metric as ``0.4123 ± 0.0045``; a dash if there is none.

    Args:
        outcome: what was found.
        mark: turns the text of the best of a metric into one that stands out.
    """
    best = {metric: outcome.best(metric) for metric in outcome.metrics}
    return [
        [
            mark(_cell(model, metric)) if model.label in best[metric] else _cell(model, metric)
            for metric in outcome.metrics
        ]
        for model in outcome.finished
    ]


def _cell(model: ModelOutcome, metric: str) -> str:
    if metric not in model.test:
        return "–"
    return with_error(model.test[metric], model.standard_error.get(metric), DECIMALS)


def as_text(outcome: Outcome, width: int) -> str:
    """The table for a terminal, in blocks of as many metrics as the width holds."""
    texts = cells(outcome, lambda text: f"*{text}")
    labels = [model.label for model in outcome.finished]
    first = max(map(len, ["model", *labels]))
    column = max(map(len, [*outcome.metrics, *(text for row in texts for text in row)])) + 3
    in_block = max(1, (width - first) // column)
    names = list(outcome.metrics.values())
    blocks = []
    for start in range(0, len(names), in_block):
        block = slice(start, start + in_block)
        rows = [[label, *row[block]] for label, row in zip(labels, texts)]
        blocks.append(text_table(["model", *names[block]], rows))
    return "\n\n".join(blocks)


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """A plain table: the first column starts at the left, the others end at the right."""
    table = Texttable(max_width=0)
    table.set_deco(Texttable.HEADER)
    table.set_cols_align(["l"] + ["r"] * (len(header) - 1))
    table.set_header_align(["l"] + ["r"] * (len(header) - 1))
    table.set_cols_dtype(["t"] * len(header))
    table.header(header)
    table.add_rows(rows, header=False)
    return table.draw()


def as_markdown(outcome: Outcome) -> str:
    """The table, its caption, and the comparisons with the baseline, in Markdown."""
    parts = [f"# Comparison on {_in_markdown(outcome.plan.dataset)}"]
    if outcome.finished:
        texts = cells(outcome, Bold)
        rows = [[model.label, *row] for model, row in zip(outcome.finished, texts)]
        table = markdown_table(["model", *outcome.metrics.values()], rows)
        parts += [table, _in_markdown(caption(outcome))]
    if outcome.failures:
        parts.append(markdown_table(["failed", "seed", "reason"], outcome.failures))
    if outcome.comparisons:
        header = ["model", "metric", "mean difference", "95% interval", "corrected p"]
        parts += [
            f"## Against {_in_markdown(outcome.baseline)}",
            markdown_table(header, _compared(outcome)),
            about_tests(outcome),
        ]
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, whose cells are read as plain text; :class:`Bold` ones are bold."""
    frame = pd.DataFrame(
        [[_in_markdown(cell) for cell in row] for row in rows],
        columns=[_in_markdown(name) for name in header],
    )
    align = ["left"] + ["right"] * (len(frame.columns) - 1)
    return frame.to_markdown(index=False, disable_numparse=True, colalign=align)


def _in_markdown(value: object) -> str:
    text = str(value)
    # What would end a cell or begin a tag, a link or an emphasis.
    for letter in "\\`*_[]|<>&":
        text = text.replace(letter, f"\\{letter}")
    return f"**{text}**" if isinstance(value, Bold) else text


def tests_in_order(outcome: Outcome) -> list[Comparison]:
    """Those of the metric by which models are selected first."""
    chosen = outcome.plan.valid_metric
    return sorted(outcome.comparisons, key=lambda test: test.metric != chosen)


def about_tests(outcome: Outcome) -> str:
    """What the tests against the baseline are, and what they say."""
    whose = ", each the mean over the seeds" if len(outcome.plan.seeds) > 1 else ""
    return (
        f"Paired t-tests on the metrics of {outcome.comparisons[0].n_users:,} test users{whose}. "
        f"The p-values are corrected by Holm's method for all {len(outcome.comparisons)} "
        "comparisons of the table, the intervals are not. The test says whether the difference "
        "would stay with other users, not whether it would stay with another training."
    )


def _compared(outcome: Outcome) -> list[list[str]]:
    return [
        [
            test.label,
            outcome.metrics[test.metric],
            f"{test.difference:+.{DECIMALS}f}",
            f"[{test.low:+.{DECIMALS}f}, {test.high:+.{DECIMALS}f}]",
            p_text(test.p_corrected),
        ]
        for test in tests_in_order(outcome)
    ]


def p_text(p: float) -> str:
    """A p-value to print."""
    return "<\u00a00.0001" if p < 0.0001 else f"{p:.4f}"


def as_latex(outcome: Outcome) -> str:
    """The table for a paper; it needs the package ``booktabs``."""
    rows = [[_figure_in_latex(text) for text in row] for row in cells(outcome, Bold)]
    names = list(outcome.metrics.values())
    labels = [model.label for model in outcome.finished]
    frame = pd.DataFrame(rows, columns=names)
    frame.insert(0, "Model", labels)
    style = frame.style.hide(axis="index")
    style = style.format(escape="latex", subset=["Model"]).format_index(escape="latex", axis=1)
    table = style.to_latex(
        hrules=True,
        position="t",
        position_float="centering",
        column_format="l" + "r" * len(names),
        caption=_in_latex(caption(outcome).replace("marked", "bold")),
        label="tab:comparison",
    )
    return "% needs \\usepackage{booktabs}\n" + table


def _figure_in_latex(text: str) -> str:
    if text == "–":
        return "--"
    value, _, error = text.partition(" ± ")
    value = rf"\mathbf{{{value}}}" if isinstance(text, Bold) else value
    return f"${value}$" if not error else rf"${value} \pm {error}$"


def _in_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}"}
    special.update({letter: rf"\{letter}" for letter in "&%$#_{}"}, **{"^": r"\textasciicircum{}"})
    return text.translate(str.maketrans(special))
