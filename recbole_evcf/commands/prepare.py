"""``recbole-evcf prepare``: raw data into RecBole's atomic files."""

from __future__ import annotations

import argparse

from recbole_evcf.data.prepare import KINDS, prepare

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Prepare a data set; arguments and exit code as :func:`recbole_evcf.cli.main`."""
    parser = argparse.ArgumentParser(
        prog="recbole-evcf prepare",
        allow_abbrev=False,
        description="Turn raw data into RecBole's atomic files, whole or not at all.",
    )
    parser.add_argument("kind", choices=KINDS, help="what the raw data are")
    parser.add_argument("--raw", required=True, help="their folder, or for ml-20m its zip file")
    parser.add_argument("--name", help="name of the data set (default: the kind)")
    parser.add_argument("--output", default="dataset", help="folder of data sets (default dataset)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the data set if it exists"
    )
    options = vars(parser.parse_args(arguments))
    print(prepare(**options))
    return 0
