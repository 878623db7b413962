"""``recbole-evcf prepare``: convert raw data into RecBole's atomic files."""

import argparse

from recbole_evcf.data.prepare import prepare

# Options for a table alone.
TABLE = ("user", "item", "rating", "time", "item_file", "title")
FILTERS = ("min_rating", "min_user", "min_item")


def main(options: argparse.Namespace, words: list[str]) -> None:
    """Prepare a data set."""
    given = {
        name: value for name in (*TABLE, *FILTERS) if (value := getattr(options, name)) is not None
    }
    if given and options.kind != "table":
        raise ValueError(f"--{next(iter(given))} is for prepare table, not for {options.kind}.")
    target = options.name, options.kind, options.output, options.overwrite
    print(prepare(options.raw, *target, **given))
