"""Compare models on the same split; kept runs are reused and the others run."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from logging import getLogger
from multiprocessing import get_context
from typing import Any

import pandas as pd

from recbole_evcf.comparison.outcome import Outcome, read_outcome
from recbole_evcf.comparison.plan import Plan, Run, make_plan, parse_models
from recbole_evcf.comparison.report import write_comparison
from recbole_evcf.comparison.worker import work
from recbole_evcf.config.keys import choice
from recbole_evcf.distributed import UNGUARDED, end_unguarded, how_ended
from recbole_evcf.results import Store, digest, folder_held
from recbole_evcf.utils.packages import with_ray

# Takes runs, the store, and what tells a line on a run; yields each run that has ended, and why it
# failed, None if it did not.
Runner = Callable[
    [Iterable[Run], Store, Callable[[Run, str], None]], Iterator[tuple[Run, str | None]]
]


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
    tool: str = "local",
    ray_address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
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
        tool: ``local``, one run after another, or ``ray``, in parallel.
        ray_address: of a Ray cluster; None for this machine.
        cpus_per_trial, gpus_per_trial: of each run with Ray; 0.5 puts two on one.
        settings: config keys for all models.

    Raises:
        ValueError: a model, a setting or a seed is wrong, or the folder or Ray cannot be used, or a
            script calls this outside of ``if __name__ == "__main__":``; nothing has been run.

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
    end_unguarded()
    specs = parse_models(models if isinstance(models, str) else ",".join(models))
    plan = make_plan(specs, dataset, config_files, settings, seeds, baseline)
    plan, runner = runs_by(plan, tool, ray_address, cpus_per_trial, gpus_per_trial)
    outcome = finish_plan(plan, output, getLogger(__name__).info, runner)
    call = f"recbole_evcf.compare({', '.join(spec.label for spec in specs)!r}, {dataset!r}, ...)"
    return Comparison(outcome, output, call)


def one_by_one(
    runs: Iterable[Run], store: Store, tell: Callable[[Run, str], None]
) -> Iterator[tuple[Run, str | None]]:
    """Do runs on this machine, one after another."""
    for run in runs:
        tell(run, "running")
        yield run, run_in_process(run, store)


def runs_by(
    plan: Plan, tool: str, address: str | None, cpus: float, gpus: float
) -> tuple[Plan, Runner]:
    """Return what does the runs of a plan, and the plan with the device that they then have.

    Raises:
        ValueError: there is no such tool, or Ray is missing.
    """
    choice("local", "ray").checked("--tool", tool)
    if tool == "local":
        return plan, one_by_one
    ray_runs, share = with_ray("comparison.ray_runs", cpus, gpus)
    # What this machine has does not matter.
    device = {"device": "cuda" if gpus else "cpu"}
    runs = (replace(run, settings={**run.settings, **device}) for run in plan.runs)
    runner = partial(ray_runs.by_ray, share=share, address=address)
    return replace(plan, runs=tuple(runs)), runner


def finish_plan(
    plan: Plan, folder: str, log: Callable[[str], None], runner: Runner = one_by_one
) -> Outcome:
    """Run what is not yet in the folder, and read all results; ``log`` takes a line on each run.

    Each run has a process of its own: its memory can be measured, a crash ends nothing else, and
    no model leaves anything behind that another would meet. A failed run does not stop the others.

    Raises:
        ValueError: the folder cannot be written to, or another command writes to it; nothing has
            been run.
    """
    finished, failures = {}, {}
    numbers = {id(run): f"[{n}/{len(plan.runs)}]" for n, run in enumerate(plan.runs, start=1)}

    def tell(run: Run, what: str) -> None:
        log(f"{numbers[id(run)]} {run.spec.label}, seed {run.seed}: {what}")

    with folder_held(folder):
        store = Store(os.path.join(folder, "runs"))
        # Models of other names may have the same settings.
        left: dict[str, Run] = {}
        for run in plan.runs:
            if kept := read_run(run, store):
                finished[run.name] = kept
                tell(run, "kept from before")
            else:
                left.setdefault(run.name, run)
        for run, failure in runner(left.values(), store, tell):
            if found := None if failure else read_run(run, store):
                finished[run.name] = found
                epochs, seconds = len(found[0]["curve"]), found[0]["costs"]["total_seconds"]
                tell(run, f"{epochs} {'epoch' if epochs == 1 else 'epochs'} in {seconds:.1f} s")
            else:
                failures[run.name] = failure or "its files have been changed meanwhile"
                path = store.path(run.name, ".log")
                tell(run, f"failed: {failures[run.name]} (log: {path})")
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


def request_of(run: Run, store: Store) -> dict[str, Any]:
    """Return what :func:`~recbole_evcf.comparison.worker.execute` takes, beside the store."""
    defaults = {"checkpoint_dir": str(store.folder.parent / "saved"), "show_progress": False}
    return {**run.request, "settings": {**defaults, **run.request["settings"]}}


def run_in_process(run: Run, store: Store) -> str | None:
    """Run in a separate process; return why it failed, None if it did not.

    Raises:
        ValueError: the process met the call that started it.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = (request_of(run, store), run.settings, str(store.path(run.name, "")), theirs)
    # A daemon could not start processes, as dataloaders with ``worker`` do.
    process = context.Process(target=work, args=arguments, daemon=False)
    process.start()
    theirs.close()
    try:
        failure = ours.recv()
    except EOFError:
        process.join()
        ended = f"its process {how_ended(process.exitcode or 0)}"
        if process.exitcode == UNGUARDED:
            raise ValueError(f"{ended}.") from None
        return ended
    except BaseException:
        process.terminate()
        raise
    process.join()
    return failure
