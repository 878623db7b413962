"""``recbole-evcf prepare``: convert raw data into RecBole's atomic files."""

from __future__ import annotations

from recbole_evcf.commands.options import parse
from recbole_evcf.data.prepare import prepare

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Prepare a data set; arguments and exit code as :func:`recbole_evcf.cli.main`."""
    options, _ = parse("prepare", arguments)
    print(prepare(**vars(options)))
    return 0
