"""``recbole-evcf reproduce``: retrain a table of the paper and compare it with the paper's."""

from __future__ import annotations

import argparse
import shlex

from recbole_evcf.commands.common import (
    EXPECTED,
    fail_somewhere,
    print_failures,
    put_words_aside,
    read_seeds,
    read_settings,
    remark_on,
    stopped_by,
    tell,
)
from recbole_evcf.commands.options import parse, split_files
from recbole_evcf.comparison.compare import finish_plan
from recbole_evcf.comparison.paper import PaperTable, paper_table
from recbole_evcf.comparison.plan import Plan, make_plan
from recbole_evcf.comparison.report import write_reproduction
from recbole_evcf.comparison.reproduction import check_claims, reproduction_text
from recbole_evcf.config.files import DEFAULT_DATASET, shipped_yaml

__all__ = ["main"]

PROTOCOL = "protocol/strong_generalization"
BASELINE = {"table1": "Mult-VAE", "table2": "Mult-VAE, 1 layer"}


def main(arguments: list[str]) -> int:
    """Reproduce a table; arguments and exit code as :func:`recbole_evcf.commands.compare.main`."""
    options, words = parse("reproduce", arguments)
    name, model, dataset = options.table, None, None
    try:
        dataset = _dataset(options)
        table = paper_table(name, dataset, options.quick)
        model = table.specs[0].model
        plan = _plan(table, dataset, options, words)
        _check_metrics(table, plan)
        outcome = finish_plan(plan, options.output, BASELINE[name], tell)
        checks = check_claims(outcome, table)
        command = shlex.join(["recbole-evcf", "reproduce", *arguments])
        page = write_reproduction(outcome, table, checks, options.output, name, command)
    except (*EXPECTED, KeyboardInterrupt) as error:
        return stopped_by(error, options.output)
    except Exception as error:
        return fail_somewhere(error, remark_on(model, dataset, options.config_files, words))
    print(f"\n{reproduction_text(outcome, table, checks)}")
    print_failures(outcome)
    print(f"\nThe report is {page}; the tables are beside it.")
    return 1 if outcome.failures else 0


def _dataset(options: argparse.Namespace) -> str:
    if options.dataset is None and not options.quick:
        raise ValueError("--dataset is missing: ml-20m, netflix or any other; or add --quick.")
    return options.dataset or DEFAULT_DATASET


def _plan(table: PaperTable, dataset: str, options: argparse.Namespace, words: list[str]) -> Plan:
    put_words_aside()
    shipped = [PROTOCOL]
    if shipped_yaml(f"dataset/{dataset}"):
        shipped.append(f"dataset/{dataset}")
    return make_plan(
        table.specs,
        dataset,
        shipped,
        read_settings(words),
        read_seeds(options.seeds),
        user_files=split_files(options.config_files),
    )


def _check_metrics(table: PaperTable, plan: Plan) -> None:
    missing = [metric for metric in table.metrics if metric not in plan.metrics]
    if missing:
        raise ValueError(
            f"the table of the paper has {', '.join(missing)}, which metrics and topk do not ask "
            "for: leave them as the protocol has them."
        )
