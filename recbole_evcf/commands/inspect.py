"""``recbole-evcf inspect``: look inside a trained model."""

from __future__ import annotations

import argparse
import os

from recbole_evcf.inspection.inspection import inspect_model
from recbole_evcf.inspection.report import check_folder
from recbole_evcf.report.table import number
from recbole_evcf.utils.text import printable

__all__ = ["main"]


def main(options: argparse.Namespace, words: list[str]) -> int:
    """Inspect a model."""
    check_folder(options.output)
    inspection = inspect_model(options.model_file, options.dataset)
    files = inspection.report(options.output)
    width = max(map(len, inspection.facts))
    for name, value in inspection.facts.items():
        print(f"{name:<{width}}  {printable(number(value, '.1f'))}")
    page = os.path.join(options.output, files[0])
    print(f"\n{page} and {len(files) - 1} CSV files beside it")
    return 0
