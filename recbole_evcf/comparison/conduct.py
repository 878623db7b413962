"""A comparison from its plan to its outcome."""

from __future__ import annotations

from collections.abc import Callable

from recbole_evcf.comparison.outcome import Outcome, gather
from recbole_evcf.comparison.plan import Plan
from recbole_evcf.comparison.runner import run_all
from recbole_evcf.comparison.store import RunStore
from recbole_evcf.results import folder_held

__all__ = ["conduct"]


def conduct(plan: Plan, folder: str, baseline: str, tell: Callable[[str], None]) -> Outcome:
    """Run what is not yet in the folder, and gather all.

    Args:
        plan: what to run.
        folder: of the comparison; finished runs are kept there and not run again.
        baseline: label of the model that the others are compared with.
        tell: takes a line on each run.

    Raises:
        ValueError: the folder cannot be written to, or another command writes to it; nothing has
            been run.
    """
    with folder_held(folder):
        store = RunStore(folder)
        return gather(plan, store, run_all(plan.runs, store, tell), baseline)
