"""``recbole-evcf compare`` and ``reproduce``: models on the same split, in tables and pages."""

import argparse
import shutil

from recbole_evcf.commands.options import read_seeds, read_settings, split_files, tell
from recbole_evcf.comparison.compare import Comparison, finish_plan, runs_by
from recbole_evcf.comparison.outcome import Outcome
from recbole_evcf.comparison.paper import paper_table, reproduction_text, write_reproduction
from recbole_evcf.comparison.plan import Plan, make_plan, parse_models
from recbole_evcf.comparison.report import caption, metric_table
from recbole_evcf.config.files import DEFAULTS
from recbole_evcf.utils.text import printable

KEPT = ". Finished runs are kept in {}: repeat the command to resume."
BASELINE = {"table1": "Mult-VAE", "table2": "Mult-VAE, 1 layer"}


def compare(options: argparse.Namespace, words: list[str]) -> int:
    """Compare models.

    Returns:
        0; 1 if a run failed, the others being reported.
    """
    options.remark = KEPT.format(options.output)
    specs = parse_models(options.models)
    options.model = specs[0].model
    files, seeds = split_files(options.config_files), read_seeds(options.seeds)
    settings = read_settings(words)
    plan = make_plan(specs, options.dataset, files, settings, seeds, options.baseline)
    outcome = _finish(plan, options)
    page = Comparison(outcome, options.output, options.command_line).report()
    if outcome.runs:
        width = shutil.get_terminal_size((120, 24)).columns
        print(f"\n{metric_table(outcome).text(width)}\n\n{caption(outcome)}")
    return _end(outcome, f"{page}; beside it comparison.csv, .json, .md and .tex")


def reproduce(options: argparse.Namespace, words: list[str]) -> int:
    """Retrain a table of the paper, and compare it with the paper's; returns as :func:`compare`."""
    options.remark = KEPT.format(options.output)
    if options.dataset is None and not options.quick:
        raise ValueError("--dataset is missing: ml-20m, netflix or any other; or add --quick.")
    name, dataset = options.table, options.dataset or DEFAULTS["dataset"]
    table = paper_table(name, dataset, options.quick)
    options.model, options.dataset = table.specs[0].model, dataset
    files, seeds = split_files(options.config_files), read_seeds(options.seeds)
    plan = make_plan(table.specs, dataset, files, read_settings(words), seeds, BASELINE[name])
    missing = [metric for metric in table.metrics if metric not in plan.metrics]
    if missing:
        raise ValueError(
            f"the table of the paper has {', '.join(missing)}, which metrics and topk do not ask "
            "for: leave them as the protocol has them."
        )
    outcome = _finish(plan, options)
    page = write_reproduction(outcome, table, options.output, options.command_line)
    print(f"\n{reproduction_text(outcome, table)}")
    return _end(outcome, f"{page}; the tables are beside it")


def _finish(plan: Plan, options: argparse.Namespace) -> Outcome:
    share = options.cpus_per_trial, options.gpus_per_trial
    plan, runner = runs_by(plan, options.tool, options.ray_address, *share)
    return finish_plan(plan, options.output, tell, runner)


def _end(outcome: Outcome, files: str) -> int:
    for label, seed, reason in outcome.failures:
        print(printable(f"failed: {label}, seed {seed}: {reason}"))
    print(f"\nThe report is {files}.")
    return 1 if outcome.failures else 0
