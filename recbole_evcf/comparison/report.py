"""A comparison, and a reproduced table of the paper, as files for people and programs."""

from __future__ import annotations

import os
from dataclasses import asdict

import pandas as pd

from recbole_evcf.comparison import reproduction
from recbole_evcf.comparison.figures import learning_curves, metric_bars
from recbole_evcf.comparison.outcome import Outcome, numbers
from recbole_evcf.comparison.paper import PaperTable
from recbole_evcf.comparison.reproduction import ClaimCheck
from recbole_evcf.report.page import Report, Section
from recbole_evcf.report.table import Table
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = [
    "caption",
    "metric_table",
    "sections",
    "write_comparison",
    "write_reproduction",
    "write_tables",
]

LEVEL = 0.05
COSTS = {
    "model": "model",
    "epochs": "epochs",
    "training_seconds": "training, s",
    "total_seconds": "with validation, s",
    "training_users_per_second": "users/s, training",
    "evaluation_users_per_second": "users/s, evaluation",
    "peak_memory_mib": "peak memory, MiB",
    "memory_before_mib": "before the model, MiB",
    "peak_gpu_memory_mib": "peak GPU memory, MiB",
    "measured_on": "measured on",
}
DIGITS = {"training_seconds": ",.2f", "total_seconds": ",.2f"}


def write_comparison(outcome: Outcome, folder: str, command: str) -> str:
    """Write the tables of :func:`write_tables` and the page; returns the path of the page.

    Args:
        outcome: what was found.
        folder: that the files go into.
        command: what was typed, for those who want to do it again.
    """
    write_tables(outcome, folder, "comparison")
    path = os.path.join(folder, "report.html")
    report = Report(_title(outcome), [*sections(outcome), Section("Command", [command])])
    report.write_html(path)
    return path


def write_reproduction(
    outcome: Outcome,
    table: PaperTable,
    checks: list[ClaimCheck],
    folder: str,
    name: str,
    command: str,
) -> str:
    """Write the files of a reproduced table of the paper; returns the path of the page.

    Args:
        outcome, table, checks: what was found, what the paper has, and how they agree.
        folder: that the files go into.
        name: of the table.
        command: what was typed.
    """
    write_tables(outcome, folder, name)
    reproduction.write_reproduction(outcome, table, checks, folder, f"{name}-beside-paper")
    path = os.path.join(folder, f"{name}.html")
    title = f"{name.replace('table', 'Table ')} of Kim & Suh (2019) on {outcome.plan.dataset}"
    beside = [Section("Beside the paper", []), *reproduction.sections(outcome, table, checks)]
    Report(title, [*beside, *sections(outcome), Section("Command", [command])]).write_html(path)
    return path


def write_tables(outcome: Outcome, folder: str, name: str) -> None:
    """Write ``name.csv``, ``.json``, ``.md`` and ``.tex``, each atomically."""
    path = os.path.join(folder, name)
    write_numbers(outcome, path)
    brief = [*_metrics(outcome), *_failures(outcome), *_tests(outcome)]
    Report(_title(outcome), brief).write_markdown(f"{path}.md")
    text = metric_table(outcome).latex(_bold(caption(outcome)), "tab:comparison")
    with atomic_write(f"{path}.tex") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


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


def sections(outcome: Outcome) -> list[Section]:
    """Every part of the page that has something to show."""
    if not outcome.finished:
        return [*_failures(outcome), *_settings(outcome)]
    return [
        *_metrics(outcome),
        *_spread(outcome),
        *_failures(outcome),
        *_charts(outcome),
        *_tests(outcome),
        *_costs(outcome),
        *_settings(outcome),
    ]


def _title(outcome: Outcome) -> str:
    return f"Comparison on {outcome.plan.dataset}"


def _bold(text: str) -> str:
    return text.replace("marked", "bold")


def _metrics(outcome: Outcome) -> list[Section]:
    if not outcome.finished:
        return []
    return [Section("Test metrics", [metric_table(outcome), _bold(caption(outcome))])]


def _spread(outcome: Outcome) -> list[Section]:
    if not any(model.seed_deviation for model in outcome.finished):
        return []
    names = {f"{key}_seed_sd": name for key, name in outcome.metrics.items()}
    table = numbers(outcome).query("finished_seeds > 0")[["model", "finished_seeds", *names]]
    text = "Sample standard deviations of a metric over the seeds of a model."
    parts = [Table(table, {"finished_seeds": "seeds", **names}), text]
    return [Section("Spread between the seeds", parts, level=3)]


def _failures(outcome: Outcome) -> list[Section]:
    table = pd.DataFrame(outcome.failures, columns=["model", "seed", "reason"])
    return [Section("Failed", [Table(table, formats={"seed": "d"})])] if len(table) else []


def _charts(outcome: Outcome) -> list[Section]:
    charts = [Section("Metrics", [metric_bars(outcome)])]
    if any(len(result["curve"]) > 1 for m in outcome.finished for result in m.results.values()):
        text = (
            "Reconstruction and KL term are means over the training users. RecBole's own models "
            "give only the sum of their losses, and are in the first chart alone; models that "
            "do not learn by epochs are a point there."
        )
        charts.append(Section("Learning curves", [learning_curves(outcome), text]))
    return charts


def _tests(outcome: Outcome) -> list[Section]:
    if len(outcome.models) < 2 or not outcome.finished:
        return []
    title = f"Against {outcome.baseline}"
    if not outcome.comparisons:
        text = (
            "There are no two models with metrics of the same two users or more, which a paired "
            "test needs."
        )
        return [Section(title, [text])]
    table = pd.DataFrame(outcome.comparisons)
    # Those of the metric by which models are selected first.
    table = table.sort_values(
        "metric", key=lambda key: key != outcome.plan.valid_metric, kind="stable"
    )
    # A space at which no line is broken.
    table["interval"] = [
        f"[{low:+.4f},\u00a0{high:+.4f}]" for low, high in zip(table.low, table.high)
    ]
    table["metric"] = table["metric"].map(outcome.metrics)
    names = {
        "label": "model",
        "metric": "metric",
        "difference": "mean difference",
        "interval": "95% interval",
        "p_value": "p",
        "p_corrected": "corrected p",
    }
    shown = Table(
        table[list(names)],
        names,
        {"difference": "+.4f", "p_value": "p", "p_corrected": "p"},
        bold=table[["p_corrected"]] < LEVEL,
    )
    return [
        Section(title, [shown, f"{about_tests(outcome)} Bold: below 0.05 after the correction."])
    ]


def _costs(outcome: Outcome) -> list[Section]:
    table = numbers(outcome).query("finished_seeds > 0")[list(COSTS)]
    if not table["peak_gpu_memory_mib"].fillna(0).any():
        table = table.drop(columns="peak_gpu_memory_mib")
    text = (
        "Training includes making the model, where some models learn all they learn, and the "
        "training epochs. Users per second count every training user once an epoch, and in the "
        "evaluation every test user. Memory is that of the whole process, which ran this model "
        "alone; before the model there is what Python, the libraries and the data took. Costs of "
        "different machines cannot be compared; of a run by an earlier version the machine is "
        "unknown."
    )
    whole = dict.fromkeys(COSTS, ",.0f")
    return [Section("Costs", [Table(table, COSTS, {**whole, **DIGITS}), text])]


def _settings(outcome: Outcome) -> list[Section]:
    plan = outcome.plan
    table = pd.DataFrame(
        [(model.label, model.spec.model, _listed(model.spec.settings)) for model in outcome.models],
        columns=["label", "model", "its own settings"],
    )
    text = (
        f"Split: {_listed(plan.eval_args)}; its seed is {plan.split_seed}. Seeds of the models: "
        f"{', '.join(map(str, plan.seeds))}. Every other setting of every run is in the folder "
        "runs."
    )
    return [Section("Settings", [Table(table), text])]


def _listed(settings: dict) -> str:
    return ", ".join(f"{key}: {value}" for key, value in settings.items()) or "–"
