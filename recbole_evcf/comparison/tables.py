"""A comparison as a tidy frame, and its tables with the sentences that explain them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from recbole_evcf.comparison.outcome import ModelOutcome, Outcome
from recbole_evcf.report.table import Table

__all__ = ["about_tests", "caption", "cost_table", "metric_table", "numbers", "paired_tests"]

MIB = 2**20
# Names of the costs shown; those in bytes are in MiB.
COSTS = {
    "epochs": "epochs",
    "training_seconds": "training, s",
    "total_seconds": "with validation, s",
    "training_users_per_second": "users/s, training",
    "evaluation_users_per_second": "users/s, evaluation",
    "peak_memory_mib": "peak memory, MiB",
    "memory_before_mib": "before the model, MiB",
    "peak_gpu_memory_mib": "peak GPU memory, MiB",
}
LEVEL = 0.05


def numbers(outcome: Outcome) -> pd.DataFrame:
    """Return one row per model with all its values, unrounded.

    Columns: ``model``, ``finished_seeds``, ``failure``; each test metric, followed by ``_se``, its
    standard error, and ``_seed_sd``; ``valid_`` and the validation metrics; the costs.
    """
    return pd.DataFrame([_row(model, list(outcome.metrics)) for model in outcome.models])


def _row(model: ModelOutcome, metrics: list[str]) -> dict[str, Any]:
    failure = next(iter(model.failures.values()), None)
    row = {"model": model.label, "finished_seeds": len(model.results), "failure": failure}
    for key in metrics:
        row[key] = model.test.get(key)
        row[f"{key}_se"] = model.standard_error.get(key)
        row[f"{key}_seed_sd"] = model.seed_deviation.get(key)
    row |= {f"valid_{key}": model.valid.get(key) for key in metrics}
    row["epochs"] = pd.Series([len(run["curve"]) for run in model.results.values()]).mean()
    for name in list(COSTS)[1:]:
        cost = model.cost(name.removesuffix("_mib"))
        row[name] = cost / MIB if cost is not None and name.endswith("_mib") else cost
    return {**row, "measured_on": model.measured_on}


def metric_table(outcome: Outcome) -> Table:
    """Return the finished models' test metrics and standard errors, the best in bold."""
    table = numbers(outcome).query("finished_seeds > 0")
    values = [name for key in outcome.metrics for name in (key, f"{key}_se")]
    best = {key: table["model"].isin(outcome.best(key)) for key in outcome.metrics}
    return Table(table[["model", *values]], outcome.metrics, bold=pd.DataFrame(best))


def caption(outcome: Outcome) -> str:
    """Explain the values of the table and their standard errors."""
    plan, seeds = outcome.plan, len(outcome.plan.seeds)
    kind = "by users" if "SG" in (plan.eval_args["split"] or {}) else "of interactions"
    text = (
        f"Test metrics on {plan.dataset}, one split {kind} (seed {plan.split_seed}), "
        f"{outcome.n_users():,} users."
    )
    if seeds > 1:
        listed = ", ".join(map(str, plan.seeds))
        text += f" Each value is the mean over {seeds} seeds ({listed})."
    if outcome.has_user_errors:
        whose = "each user's mean over the seeds" if seeds > 1 else "the users' values"
        text += (
            f" ± is the standard error over the test users, of {whose}: how far the value would "
            "move with other users."
        )
        if seeds > 1:
            text += " The spread between seeds is on the page, and in the CSV file as _seed_sd."
    elif seeds > 1:
        text += " ± is the standard error over the seeds: there are no values of several users."
    return text + " The best of each column is marked."


def paired_tests(outcome: Outcome) -> Table:
    """Return the tests against the baseline, those of the selecting metric first."""
    table = pd.DataFrame(outcome.comparisons)
    first = outcome.plan.valid_metric
    table = table.sort_values("metric", key=lambda metric: metric != first, kind="stable")
    # A non-breaking space.
    bounds = zip(table["low"], table["high"])
    table["interval"] = [f"[{low:+.4f},\u00a0{high:+.4f}]" for low, high in bounds]
    table["metric"] = table["metric"].map(outcome.metrics)
    names = {
        "label": "model",
        "metric": "metric",
        "difference": "mean difference",
        "interval": "95% interval",
        "p_value": "p",
        "p_corrected": "corrected p",
    }
    formats = {"difference": "+.4f", "p_value": "p", "p_corrected": "p"}
    return Table(table[list(names)], names, formats, bold=table[["p_corrected"]] < LEVEL)


def about_tests(outcome: Outcome) -> str:
    """Explain the tests against the baseline."""
    whose = ", each the mean over the seeds" if len(outcome.plan.seeds) > 1 else ""
    return (
        f"Paired t-tests on the metrics of {outcome.comparisons[0].n_users:,} test users{whose}. "
        f"The p-values are corrected by Holm's method for all {len(outcome.comparisons)} "
        "comparisons of the table, the intervals are not. The test says whether the difference "
        "would hold for other users, not whether it would hold for another training run. Bold: "
        "below 0.05 after the correction."
    )


def cost_table(outcome: Outcome) -> Table:
    """Return the finished models' time and memory, of the GPU if one was used."""
    table = numbers(outcome).query("finished_seeds > 0")
    names = {"model": "model", **COSTS, "measured_on": "measured on"}
    if not table["peak_gpu_memory_mib"].fillna(0).any():
        del names["peak_gpu_memory_mib"]
    seconds = dict.fromkeys(("training_seconds", "total_seconds"), ",.2f")
    return Table(table[list(names)], names, {**dict.fromkeys(names, ",.0f"), **seconds})
