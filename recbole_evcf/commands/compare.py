"""``recbole-evcf compare``: models on the very same split, in tables and on a page."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil

from recbole_evcf.commands.common import (
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
from recbole_evcf.comparison.conduct import conduct
from recbole_evcf.comparison.entry import Entry
from recbole_evcf.comparison.overrides import parse_models
from recbole_evcf.comparison.plan import Plan, make_plan
from recbole_evcf.comparison.report import write_report
from recbole_evcf.comparison.tables import as_text, caption, write_tables

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Compare models; arguments as :func:`recbole_evcf.cli.main`.

    Returns:
        0; 1 if a run failed, the others being reported, or for what nobody thought of; 2 for a
        mistake in what the user gave; 130 if it was interrupted.
    """
    options, words = parse("compare", arguments)
    entries: list[Entry] = []
    try:
        entries = parse_models(options.models)
        baseline = _baseline(options.baseline, entries)
        plan = _plan(entries, options, words)
        outcome = conduct(plan, options.output, baseline, tell)
        write_tables(outcome, options.output, "comparison")
        page = os.path.join(options.output, "report.html")
        write_report(outcome, page, shlex.join(["recbole-evcf", "compare", *arguments]))
    # NotImplementedError: RecBole's word for a setting it does not know.
    except (ValueError, NotImplementedError, OSError, KeyboardInterrupt) as error:
        return stopped_by(error, options.output)
    except Exception as error:
        model = entries[0].model if entries else None
        remark = remark_on(model, options.dataset, options.config_files, words)
        return fail_somewhere(error, remark)
    if outcome.finished:
        width = shutil.get_terminal_size((120, 24)).columns
        print(f"\n{as_text(outcome, width)}\n\n{caption(outcome)}")
    print_failures(outcome)
    print(f"\nThe report is {page}; beside it comparison.csv, .json, .md and .tex.")
    return 1 if outcome.failures else 0


def _plan(entries: list[Entry], options: argparse.Namespace, words: list[str]) -> Plan:
    put_words_aside()
    return make_plan(
        entries,
        options.dataset,
        split_files(options.config_files),
        read_settings(words),
        read_seeds(options.seeds),
    )


def _baseline(asked: str | None, entries: list[Entry]) -> str:
    labels = [entry.label for entry in entries]
    if asked is None:
        return labels[0]
    try:
        label = parse_models(asked)[0].label
    except ValueError:
        label = asked
    if label not in labels:
        raise ValueError(f"--baseline: {asked!r} is none of the models {', '.join(labels)}.")
    return label
