"""``recbole-evcf prepare``: convert raw data into RecBole's atomic files."""

import argparse

from recbole_evcf.data.prepare import prepare


def main(options: argparse.Namespace, words: list[str]) -> None:
    """Prepare a data set."""
    print(prepare(options.kind, options.raw, options.name, options.output, options.overwrite))
