"""The runs of a comparison: kept ones are looked up, the others run in a process each."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_evcf.comparison.plan import Plan, Run
from recbole_evcf.comparison.worker import work
from recbole_evcf.results import Store, digest

__all__ = ["Runs"]


class Runs:
    """The runs under ``folder/runs``: a sealed JSON file each, the metrics of its users, its log.

    The JSON file is written last, so a run that has one is finished.

    Args:
        folder: of the comparison; made if it does not exist.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.store = Store(self.folder / "runs")

    def path(self, run: Run, ending: str) -> str:
        """Return the path of a run's file: ``.json``, ``.users.csv`` or ``.log``."""
        return str(self.store.path(run.name, ending))

    def result(self, run: Run) -> dict[str, Any] | None:
        """Return what a finished run found, see :func:`~recbole_evcf.comparison.worker.execute`.

        None for a run that is not finished: one without files, of other settings, or whose files
        are corrupt or have changed since.
        """
        result = self.store.get(run.name, run.settings)
        try:
            users = result and result["per_user"]
            if users and digest(Path(self.path(run, ".users.csv"))) != users:
                return None
        except (OSError, KeyError):
            return None
        return result

    def per_user(self, run: Run) -> pd.DataFrame:
        """Return test metrics of a finished run by user id; empty where there are none."""
        result = self.result(run)
        if result is None or result["per_user"] is None:
            return pd.DataFrame()
        return pd.read_csv(
            self.path(run, ".users.csv"),
            index_col="user_id",
            dtype={"user_id": str},
            keep_default_na=False,
            float_precision="round_trip",
        )

    def finish(self, plan: Plan, log: Callable[[str], None]) -> dict[str, str]:
        """Run what is not finished; a run that fails does not keep the others from running.

        Each has a process of its own: its memory can be measured, a crash ends nothing else, and
        no model leaves anything behind that another would meet.

        Args:
            plan: the runs, in their order.
            log: takes a line on each run.

        Returns:
            by name, why a run failed.
        """
        failures = {}
        for number, run in enumerate(plan.runs, start=1):
            label = f"[{number}/{len(plan.runs)}] {run.spec.label}, seed {run.seed}"
            if self.result(run) is not None:
                log(f"{label}: kept from before")
                continue
            log(f"{label}: running")
            failure = run_in_process(run, self)
            if failure is None and (result := self.result(run)) is not None:
                epochs, seconds = len(result["curve"]), result["costs"]["total_seconds"]
                log(f"{label}: {epochs} {'epoch' if epochs == 1 else 'epochs'} in {seconds:.1f} s")
            else:
                failures[run.name] = failure or "its files have been changed meanwhile"
                log(f"{label}: failed: {failures[run.name]} (log: {self.path(run, '.log')})")
        return failures


def run_in_process(run: Run, runs: Runs) -> str | None:
    """Run in a process of its own; returns why it failed, None if it did not."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    defaults = {"checkpoint_dir": str(runs.folder / "saved"), "show_progress": False}
    request = {**run.request, "settings": {**defaults, **run.request["settings"]}}
    path = str(runs.store.path(run.name, ""))
    # Not a daemon, which could have no processes of its own, as dataloaders have with ``worker``.
    process = context.Process(target=work, args=(request, run.settings, path, theirs), daemon=False)
    process.start()
    theirs.close()
    try:
        failure = ours.recv()
    except EOFError:
        process.join()
        return _end_of(process.exitcode or 0)
    except BaseException:
        process.terminate()
        raise
    process.join()
    return failure


def _end_of(code: int) -> str:
    """What the exit code of a process that sent nothing means."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; most often the memory was used up" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
