"""A comparison as a page."""

from __future__ import annotations

from recbole_evcf.comparison.figures import learning_curves, metric_bars
from recbole_evcf.comparison.outcome import DECIMALS, ModelOutcome, Outcome
from recbole_evcf.comparison.paper import PaperTable
from recbole_evcf.comparison.reproduction import Verdict, metric_rows, note, verdict_rows
from recbole_evcf.comparison.tables import (
    MIB,
    about_tests,
    caption,
    cells,
    mean_epochs,
    p_text,
    tests_in_order,
)
from recbole_evcf.report.page import Bold, Page

__all__ = ["write_report", "write_reproduction_report"]


def write_report(outcome: Outcome, path: str, command: str) -> None:
    """Write the page.

    Args:
        outcome: what was found.
        path: the HTML file.
        command: what was typed, for those who want to do it again.
    """
    page = Page(f"Comparison on {outcome.plan.dataset}")
    _add_comparison(page, outcome)
    _add_command(page, command)
    page.write(path)


def write_reproduction_report(
    outcome: Outcome,
    table: PaperTable,
    verdicts: list[Verdict],
    path: str,
    name: str,
    command: str,
) -> None:
    """Write the page of a reproduced table: ours beside the paper's, then the comparison.

    Args:
        outcome, table, verdicts: what was found, what the paper has, and how they agree.
        path: the HTML file.
        name: of the table.
        command: what was typed.
    """
    page = Page(f"{name.replace('table', 'Table ')} of Kim & Suh (2019) on {outcome.plan.dataset}")
    page.heading("Beside the paper")
    for metric in table.metrics:
        page.heading(outcome.plan.metrics.get(metric, metric), 3)
        page.table(*metric_rows(outcome, table, metric))
    page.heading("Statements of the paper")
    header, rows = verdict_rows(verdicts, table)
    page.table(header, rows, words=(0, len(header) - 1))
    page.paragraph(note(outcome, table))
    _add_comparison(page, outcome)
    _add_command(page, command)
    page.write(path)


def _add_comparison(page: Page, outcome: Outcome) -> None:
    """Add every part of the report to a page, those that have something to show."""
    if outcome.finished:
        _add_metrics(page, outcome)
    if outcome.failures:
        _add_failures(page, outcome)
    if outcome.finished:
        _add_charts(page, outcome)
        _add_tests(page, outcome)
        _add_costs(page, outcome)
    _add_settings(page, outcome)


def _add_command(page: Page, command: str) -> None:
    """Say how the page was made."""
    page.heading("Command")
    page.paragraph(command)


def _add_metrics(page: Page, outcome: Outcome) -> None:
    page.heading("Test metrics")
    rows = [[model.label, *row] for model, row in zip(outcome.finished, cells(outcome, Bold))]
    page.table(["model", *outcome.metrics.values()], rows)
    page.paragraph(caption(outcome).replace("marked", "bold"))
    if any(model.seed_deviation for model in outcome.finished):
        page.heading("Spread between the seeds", 3)
        page.table(["model", "seeds", *outcome.metrics.values()], _spread(outcome))
        page.paragraph("Sample standard deviations of a metric over the seeds of a model.")


def _spread(outcome: Outcome) -> list[list[object]]:
    return [
        [
            model.label,
            len(model.results),
            *(_number(model.seed_deviation.get(metric), DECIMALS) for metric in outcome.metrics),
        ]
        for model in outcome.finished
    ]


def _add_failures(page: Page, outcome: Outcome) -> None:
    page.heading("Failed")
    page.table(["model", "seed", "reason"], outcome.failures, words=(0, 2))


def _add_tests(page: Page, outcome: Outcome) -> None:
    if len(outcome.models) < 2:
        return
    page.heading(f"Against {outcome.baseline}")
    if not outcome.comparisons:
        page.paragraph(
            "There are no two models with metrics of the same two users or more, which a paired "
            "test needs."
        )
        return
    rows = [
        [
            test.label,
            outcome.metrics[test.metric],
            f"{test.difference:+.{DECIMALS}f}",
            # Joined by a space at which no line is broken.
            f"[{test.low:+.{DECIMALS}f},\u00a0{test.high:+.{DECIMALS}f}]",
            p_text(test.p_value),
            _significant(test.p_corrected),
        ]
        for test in tests_in_order(outcome)
    ]
    header = ["model", "metric", "mean difference", "95% interval", "p", "corrected p"]
    page.table(header, rows, words=(0, 1))
    page.paragraph(f"{about_tests(outcome)} Bold: below 0.05 after the correction.")


def _significant(p: float) -> str:
    text = p_text(p)
    return Bold(text) if p < 0.05 else text


def _add_charts(page: Page, outcome: Outcome) -> None:
    page.heading("Metrics")
    page.figure(metric_bars(outcome))
    if any(len(result["curve"]) > 1 for m in outcome.finished for result in m.results.values()):
        page.heading("Learning curves")
        page.figure(learning_curves(outcome))
        page.paragraph(
            "Reconstruction and KL term are means over the training users. RecBole's own models "
            "tell only the sum of their losses, and stand in the first chart alone; models that "
            "do not learn by epochs are a point there."
        )


def _add_costs(page: Page, outcome: Outcome) -> None:
    page.heading("Costs")
    header = [
        "model",
        "epochs",
        "training, s",
        "with validation, s",
        "users/s, training",
        "users/s, evaluation",
        "peak memory, MiB",
        "before the model, MiB",
    ]
    gpu = any(model.cost("peak_gpu_memory") for model in outcome.finished)
    rows = [_costs(model, gpu) for model in outcome.finished]
    header += ["peak GPU memory, MiB"] if gpu else []
    page.table([*header, "measured on"], rows, words=(0, len(header)))
    page.paragraph(
        "Training holds the making of the model, where some models learn all they learn, and the "
        "training epochs. Users per second count every training user once an epoch, and in the "
        "evaluation every test user. Memory is that of the whole process, which ran this model "
        "alone; before the model there is what Python, the libraries and the data took. Costs of "
        "different machines cannot be compared; of a run by an earlier version the machine is "
        "unknown."
    )


def _costs(model: ModelOutcome, gpu: bool) -> list[object]:
    row = [
        model.label,
        _number(mean_epochs(model), 0),
        _number(model.cost("training_seconds"), 2),
        _number(model.cost("total_seconds"), 2),
        _number(model.cost("training_users_per_second"), 0),
        _number(model.cost("evaluation_users_per_second"), 0),
        _mib(model.cost("peak_memory")),
        _mib(model.cost("memory_before")),
    ]
    row += [_mib(model.cost("peak_gpu_memory"))] if gpu else []
    return [*row, model.measured_on]


def _add_settings(page: Page, outcome: Outcome) -> None:
    plan = outcome.plan
    page.heading("Settings")
    rows = [
        [
            model.label,
            model.entry.model,
            ", ".join(f"{key}: {value}" for key, value in model.entry.settings.items()) or "–",
        ]
        for model in outcome.models
    ]
    page.table(["label", "model", "its own settings"], rows, words=(0, 1, 2))
    arguments = ", ".join(f"{key}: {value}" for key, value in plan.eval_args.items())
    seeds = ", ".join(map(str, plan.seeds))
    page.paragraph(
        f"Split: {arguments}; its seed is {plan.split_seed}. Seeds of the models: {seeds}. "
        "Every other setting of every run stands in the folder runs."
    )


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:,.{places}f}"


def _mib(value: float | None) -> str:
    return _number(None if value is None else value / MIB, 0)
