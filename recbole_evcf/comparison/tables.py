"""A comparison as a tidy frame, as JSON, and the sentences on its values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from recbole_evcf.comparison.outcome import ModelOutcome, Outcome
from recbole_evcf.report.table import Table
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = ["about_tests", "caption", "metric_table", "numbers", "write_numbers"]

MIB = 2**20
COSTS = (
    "training_seconds",
    "total_seconds",
    "training_users_per_second",
    "evaluation_users_per_second",
)
MEMORY = ("memory_before", "peak_memory", "peak_gpu_memory")


def numbers(outcome: Outcome) -> pd.DataFrame:
    """A row for each model with all its values, unrounded.

    Columns: ``model``, ``finished_seeds``, ``failure``; each test metric, behind it ``_se``, its
    standard error, and ``_seed_sd``; ``valid_`` and the validation metrics; the costs.
    """
    return pd.DataFrame([_row(model, outcome) for model in outcome.models])


def _row(model: ModelOutcome, outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model.label,
        "finished_seeds": len(model.results),
        "failure": next(iter(model.failures.values()), None),
    }
    for key in outcome.metrics:
        row[key] = model.test.get(key)
        row[f"{key}_se"] = model.standard_error.get(key)
        row[f"{key}_seed_sd"] = model.seed_deviation.get(key)
    row |= {f"valid_{key}": model.valid.get(key) for key in outcome.metrics}
    epochs = [len(result["curve"]) for result in model.results.values()]
    row["epochs"] = sum(epochs) / len(epochs) if epochs else None
    row |= {name: model.cost(name) for name in COSTS}
    for name in MEMORY:
        cost = model.cost(name)
        row[f"{name}_mib"] = None if cost is None else cost / MIB
    return {**row, "measured_on": model.measured_on}


def write_numbers(outcome: Outcome, path: str) -> None:
    """Write ``path``.csv, :func:`numbers`, and ``path``.json, each atomically."""
    with atomic_write(f"{path}.csv") as temporary:
        numbers(outcome).to_csv(temporary, index=False)
    plan = outcome.plan
    models = [
        {
            "label": model.label,
            "model": model.spec.model,
            "settings": model.spec.settings,
            "config_files": list(model.spec.config_files),
            "test": model.test,
            "standard_error": model.standard_error,
            "seed_deviation": model.seed_deviation,
            "valid": model.valid,
            "runs": [{"seed": seed, **run} for seed, run in model.results.items()],
            "failures": [{"seed": seed, "reason": why} for seed, why in model.failures.items()],
        }
        for model in outcome.models
    ]
    content = {
        "dataset": plan.dataset,
        "eval_args": plan.eval_args,
        "split_seed": plan.split_seed,
        "seeds": list(plan.seeds),
        "valid_metric": plan.valid_metric,
        "n_test_users": outcome.n_users(),
        "note": caption(outcome),
        "models": models,
        "baseline": outcome.baseline,
        "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
    }
    write_json(f"{path}.json", content)


def metric_table(outcome: Outcome) -> Table:
    """The test metrics of the finished models with their standard errors, the best bold."""
    table = numbers(outcome).query("finished_seeds > 0")
    values = [name for key in outcome.metrics for name in (key, f"{key}_se")]
    best = {key: table["model"].isin(outcome.best(key)) for key in outcome.metrics}
    return Table(table[["model", *values]], outcome.metrics, bold=pd.DataFrame(best))


def caption(outcome: Outcome) -> str:
    """What the values of the table are, and what their standard errors say."""
    plan, n_users = outcome.plan, outcome.n_users()
    kind = "by users" if "SG" in (plan.eval_args["split"] or {}) else "of interactions"
    text = (
        f"Test metrics on {plan.dataset}, one split {kind} (seed {plan.split_seed}), {n_users:,} "
        "users."
    )
    seeds = len(plan.seeds)
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


def about_tests(outcome: Outcome) -> str:
    """What the tests against the baseline are, and what they say."""
    whose = ", each the mean over the seeds" if len(outcome.plan.seeds) > 1 else ""
    return (
        f"Paired t-tests on the metrics of {outcome.comparisons[0].n_users:,} test users{whose}. "
        f"The p-values are corrected by Holm's method for all {len(outcome.comparisons)} "
        "comparisons of the table, the intervals are not. The test says whether the difference "
        "would hold for other users, not whether it would hold for another training run."
    )
