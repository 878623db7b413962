"""Compare models on the same split; kept runs are reused and the others run."""

from __future__ import annotations

import dataclasses
import functools
import signal
from collections.abc import Callable, Sequence
from logging import getLogger
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_evcf.comparison.outcome import Outcome, read_outcome
from recbole_evcf.comparison.plan import ModelSpec, Plan, Run, make_plan, parse_models
from recbole_evcf.comparison.report import write_comparison
from recbole_evcf.comparison.tables import numbers
from recbole_evcf.comparison.worker import work
from recbole_evcf.results import Store, digest, folder_held

__all__ = ["Comparison", "Runs", "baseline_of", "compare", "finish_plan", "run_in_process"]


class Comparison:
    """What :func:`compare` found.

    Args:
        outcome: the values of the models and the tests between them.
        folder: of the runs and the report.
        command: to repeat it, shown on the page.

    Attributes:
        outcome: as above.
        folder: as above.
    """

    def __init__(self, outcome: Outcome, folder: str, command: str):
        self.outcome, self.folder, self._command = outcome, folder, command

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row per model, by label: every unrounded test metric, followed by ``_se``, its
        standard error over the test users. A failed model has no values."""
        errors = [name for key in self.outcome.metrics for name in (key, f"{key}_se")]
        return numbers(self.outcome).set_index("model")[errors]

    @functools.cached_property
    def tests(self) -> pd.DataFrame:
        """One row per model (except the baseline) and metric: the mean difference over the test
        users, its standard error and 95% interval, and the paired t-test's p-values, uncorrected
        and by Holm's method. Empty where no two models have values for the same users."""
        return pd.DataFrame(map(dataclasses.asdict, self.outcome.comparisons))

    @property
    def failures(self) -> list[tuple[str, int, str]]:
        """Label, seed and reason of each run that failed."""
        return self.outcome.failures

    def report(self) -> str:
        """Write ``comparison.csv``, ``.json``, ``.md``, ``.tex`` and the page into the folder.

        Returns:
            the path of the page, ``report.html``, which needs no network.
        """
        return write_comparison(self.outcome, self.folder, self._command)


def compare(
    models: str | Sequence[str],
    dataset: str = "ml-100k",
    *,
    config_files: Sequence[str] = (),
    seeds: Sequence[int] = (),
    baseline: str | None = None,
    output: str = "comparison",
    **settings: object,
) -> Comparison:
    """Train and evaluate models on the same split, each in a separate process.

    Finished runs are kept in ``output``, and are not run again unless their settings, the data
    or the version has changed.

    Args:
        models: names, each with ``[key=value,...]`` for settings of its own.
        dataset: name of the data set.
        config_files: paths, or names of shipped files such as ``protocol/strong_generalization``.
        seeds: of the models; the split keeps one. By default that of the settings.
        baseline: the model that the others are tested against; by default the first.
        output: folder of all results.
        settings: config keys for all models.

    Raises:
        ValueError: a model, a setting or a seed is wrong, or the folder cannot be used; nothing
            has been run.

    >>> import recbole_evcf
    >>> comparison = recbole_evcf.compare(
    ...     "Pop,EASE", "ml-100k", config_files=["protocol/strong_generalization"], seeds=[2020]
    ... )
    >>> comparison.table.index.tolist()
    ['Pop', 'EASE']
    >>> bool(comparison.table.loc["EASE", "ndcg@100"] > comparison.table.loc["Pop", "ndcg@100"])
    True
    >>> bool((comparison.tests["p_corrected"] < 0.05).all())
    True
    >>> comparison.report()
    'comparison/report.html'
    """
    specs = parse_models(models if isinstance(models, str) else ",".join(models))
    first = baseline_of(specs, baseline)
    plan = make_plan(specs, dataset, config_files, settings, seeds)
    outcome = finish_plan(plan, output, first, getLogger(__name__).info)
    call = f"recbole_evcf.compare({', '.join(spec.label for spec in specs)!r}, {dataset!r}, ...)"
    return Comparison(outcome, output, call)


def finish_plan(plan: Plan, folder: str, baseline: str, log: Callable[[str], None]) -> Outcome:
    """Run what is not yet in the folder, and read all results.

    Args:
        plan: what to run.
        folder: of the comparison; finished runs are kept there and not run again.
        baseline: label of the model that the others are compared with.
        log: takes a line on each run.

    Raises:
        ValueError: the folder cannot be written to, or another command writes to it; nothing has
            been run.
    """
    with folder_held(folder):
        runs = Runs(folder)
        failures = runs.finish(plan, log)
        return read_outcome(plan, runs.finished(plan), failures, baseline)


def baseline_of(specs: Sequence[ModelSpec], asked: str | None) -> str:
    """Return the label of the model that the others are compared with.

    Raises:
        ValueError: it is none of the models.
    """
    labels = [spec.label for spec in specs]
    if asked is None:
        return labels[0]
    try:
        label = parse_models(asked)[0].label
    except ValueError:
        label = asked
    if label not in labels:
        raise ValueError(f"--baseline: {asked!r} is none of the models {', '.join(labels)}.")
    return label


class Runs:
    """The runs in ``folder/runs``: for each, a sealed JSON file, its users' metrics and its log.

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

        Return None for a run that is not finished: its files are missing, corrupt, changed or of
        other settings.
        """
        result = self.store.get(run.name, run.settings)
        try:
            users = result and result["per_user"]
            if users and digest(Path(self.path(run, ".users.csv"))) != users:
                return None
        except (OSError, KeyError):
            return None
        return result

    def finished(self, plan: Plan) -> dict[str, tuple[dict[str, Any], pd.DataFrame]]:
        """Return, by name, the results of the finished runs and their users' test metrics by user
        id, empty where there are none."""
        found = {}
        for run in plan.runs:
            result = self.result(run)
            if result is not None:
                users = self._per_user(run) if result["per_user"] else pd.DataFrame()
                found[run.name] = result, users
        return found

    def _per_user(self, run: Run) -> pd.DataFrame:
        return pd.read_csv(
            self.path(run, ".users.csv"),
            index_col="user_id",
            dtype={"user_id": str},
            keep_default_na=False,
            float_precision="round_trip",
        )

    def finish(self, plan: Plan, log: Callable[[str], None]) -> dict[str, str]:
        """Run what is not finished; a failed run does not stop the others.

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
    """Run in a separate process; return why it failed, None if it did not."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    defaults = {"checkpoint_dir": str(runs.folder / "saved"), "show_progress": False}
    request = {**run.request, "settings": {**defaults, **run.request["settings"]}}
    path = str(runs.store.path(run.name, ""))
    # A daemon could not start processes, as dataloaders with ``worker`` do.
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
    """Explain the exit code of a process that sent nothing."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = "; most often the memory was used up" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
