"""The page on reliability names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|\.ci)/[^`]+)`", PAGE)))


def test_tests_are_named():
    assert len(NAMED) > 60


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name):
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    if test:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if hasattr(node, "name")}
        assert test in defined


def test_every_row_of_a_table_names_one():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---", "| reader"))]
    assert promises
    cases = PAGE[PAGE.index("## Fuzz tests") : PAGE.index("## Data as they are")]
    for row in promises:
        assert row in cases or "`tests/" in row or "`.ci/" in row, row
