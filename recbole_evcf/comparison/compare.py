"""Compare models on the same split; kept runs are reused and the others run."""

import os
from collections.abc import Callable, Sequence
from logging import getLogger
from multiprocessing import get_context
from typing import Any

import pandas as pd

from recbole_evcf.comparison.outcome import Outcome, read_outcome
from recbole_evcf.comparison.plan import Plan, Run, make_plan, parse_models
from recbole_evcf.comparison.report import write_comparison
from recbole_evcf.comparison.worker import work
from recbole_evcf.distributed import how_ended
from recbole_evcf.results import Store, digest, folder_held


class Comparison:
    """What :func:`compare` found.

    Attributes:
        table: a row per model, by label: every unrounded test metric, followed by ``_se``, its
            standard error over the test users. A failed model has no values.
        tests: a row per metric and model except the baseline: the mean difference over the test
            users, its standard error and 95% interval, and the paired t-test's p-values,
            uncorrected and by Holm's method. Empty without two models tested on the same users.
        failures: label, seed and reason of each run that failed.
    """

    def __init__(self, outcome: Outcome, folder: str, command: str):
        self._outcome, self._folder, self._command = outcome, folder, command
        self.table = outcome.values[[n for key in outcome.metrics for n in (key, f"{key}_se")]]
        self.tests, self.failures = outcome.tests, outcome.failures

    def report(self) -> str:
        """Write ``comparison.csv``, ``.json``, ``.md``, ``.tex`` and the page, ``report.html``,
        into the folder; returns the path of the page, which needs no network."""
        return write_comparison(self._outcome, self._folder, self._command)


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
    plan = make_plan(specs, dataset, config_files, settings, seeds, baseline)
    outcome = finish_plan(plan, output, getLogger(__name__).info)
    call = f"recbole_evcf.compare({', '.join(spec.label for spec in specs)!r}, {dataset!r}, ...)"
    return Comparison(outcome, output, call)


def finish_plan(plan: Plan, folder: str, log: Callable[[str], None]) -> Outcome:
    """Run what is not yet in the folder, and read all results; ``log`` takes a line on each run.

    Each run has a process of its own: its memory can be measured, a crash ends nothing else, and
    no model leaves anything behind that another would meet. A failed run does not stop the others.

    Raises:
        ValueError: the folder cannot be written to, or another command writes to it; nothing has
            been run.
    """
    finished, failures = {}, {}
    with folder_held(folder):
        store = Store(os.path.join(folder, "runs"))
        for number, run in enumerate(plan.runs, start=1):
            label = f"[{number}/{len(plan.runs)}] {run.spec.label}, seed {run.seed}"
            if kept := read_run(run, store):
                finished[run.name] = kept
                log(f"{label}: kept from before")
                continue
            log(f"{label}: running")
            failure = run_in_process(run, store)
            if found := None if failure else read_run(run, store):
                finished[run.name] = found
                epochs, seconds = len(found[0]["curve"]), found[0]["costs"]["total_seconds"]
                log(f"{label}: {epochs} {'epoch' if epochs == 1 else 'epochs'} in {seconds:.1f} s")
            else:
                failures[run.name] = failure or "its files have been changed meanwhile"
                path = store.path(run.name, ".log")
                log(f"{label}: failed: {failures[run.name]} (log: {path})")
    return read_outcome(plan, finished, failures)


def read_run(run: Run, store: Store) -> tuple[dict[str, Any], pd.DataFrame] | None:
    """Return what :func:`~recbole_evcf.comparison.worker.execute` found, and the test metrics of
    the users by id, an empty frame where there are none.

    A run whose files are missing, corrupt, changed or of other settings is not finished: None.
    """
    result, path = store.get(run.name, run.settings), store.path(run.name, ".users.csv")
    if result is None or not result["per_user"]:
        return None if result is None else (result, pd.DataFrame())
    if not path.is_file() or digest(path) != result["per_user"]:
        return None
    # No value is missing: a user may be called NA.
    exact = {"keep_default_na": False, "float_precision": "round_trip"}
    return result, pd.read_csv(path, index_col="user_id", dtype={"user_id": str}, **exact)


def run_in_process(run: Run, store: Store) -> str | None:
    """Run in a separate process; return why it failed, None if it did not."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    path, saved = str(store.path(run.name, "")), str(store.folder.parent / "saved")
    defaults = {"checkpoint_dir": saved, "show_progress": False}
    request = {**run.request, "settings": {**defaults, **run.request["settings"]}}
    # A daemon could not start processes, as dataloaders with ``worker`` do.
    process = context.Process(target=work, args=(request, run.settings, path, theirs), daemon=False)
    process.start()
    theirs.close()
    try:
        failure = ours.recv()
    except EOFError:
        process.join()
        return f"its process {how_ended(process.exitcode or 0)}"
    except BaseException:
        process.terminate()
        raise
    process.join()
    return failure
