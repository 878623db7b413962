"""``recbole-evcf tune``: search for the settings of a model that are best on validation users."""

from __future__ import annotations

import argparse
from dataclasses import fields

from recbole_evcf.commands.options import read_settings, split_files, tell
from recbole_evcf.commands.run import result_table
from recbole_evcf.report.table import setting
from recbole_evcf.tuning.tuning import SearchOptions, Tuning, finish_search

__all__ = ["main"]


def main(options: argparse.Namespace, words: list[str]) -> int:
    """Search for the best settings of a model."""
    options.remark = f". Finished trials are in {options.output}: repeat the command to resume."
    found = finish_search(
        options.model,
        options.dataset,
        options.params_file,
        options.output,
        split_files(options.config_files),
        read_settings(words),
        SearchOptions(**{each.name: getattr(options, each.name) for each in fields(SearchOptions)}),
        tell,
    )
    print(_best_text(found, found.report()))
    return 0


def _best_text(found: Tuning, page: str) -> str:
    best = found.best
    width = max(map(len, best["params"]))
    lines = [f"{name:<{width}}  {setting(value)}" for name, value in best["params"].items()]
    table = result_table({"best_valid_result": best["valid"], "test_result": best["test"]})
    return (
        f"Best is trial {best['number']}:\n"
        + "\n".join(lines)
        + f"\n\n{table}\n\nrecbole-evcf run --config_files={found.folder}/best.yaml trains it "
        + f"again; all trials are in {page}"
    )
