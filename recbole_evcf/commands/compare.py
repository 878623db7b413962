"""``recbole-evcf compare``: models on the very same split, in tables and on a page."""

from __future__ import annotations

import shlex
import shutil

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
from recbole_evcf.comparison.compare import Comparison, baseline_of, finish_plan
from recbole_evcf.comparison.plan import ModelSpec, make_plan, parse_models
from recbole_evcf.comparison.tables import caption, metric_table

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Compare models; arguments as :func:`recbole_evcf.cli.main`.

    Returns:
        0; 1 if a run failed, the others being reported, or for an unforeseen error; 2 for a
        mistake in what the user gave; 130 if it was interrupted.
    """
    options, words = parse("compare", arguments)
    specs: list[ModelSpec] = []
    try:
        specs = parse_models(options.models)
        baseline = baseline_of(specs, options.baseline)
        put_words_aside()
        files, settings = split_files(options.config_files), read_settings(words)
        plan = make_plan(specs, options.dataset, files, settings, read_seeds(options.seeds))
        outcome = finish_plan(plan, options.output, baseline, tell)
        command = shlex.join(["recbole-evcf", "compare", *arguments])
        page = Comparison(outcome, options.output, command).report()
    except (*EXPECTED, KeyboardInterrupt) as error:
        return stopped_by(error, options.output)
    except Exception as error:
        model = specs[0].model if specs else None
        remark = remark_on(model, options.dataset, options.config_files, words)
        return fail_somewhere(error, remark)
    if outcome.finished:
        width = shutil.get_terminal_size((120, 24)).columns
        print(f"\n{metric_table(outcome).text(width)}\n\n{caption(outcome)}")
    print_failures(outcome)
    print(f"\nThe report is {page}; beside it comparison.csv, .json, .md and .tex.")
    return 1 if outcome.failures else 0
