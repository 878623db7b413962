"""Models compared on the very same split, from Python and for the command."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from logging import getLogger

import pandas as pd

from recbole_evcf.comparison.outcome import Outcome, read_outcome
from recbole_evcf.comparison.plan import Plan, make_plan
from recbole_evcf.comparison.report import write_comparison
from recbole_evcf.comparison.runs import Runs
from recbole_evcf.comparison.specs import ModelSpec, parse_models
from recbole_evcf.comparison.tables import numbers
from recbole_evcf.results import folder_held

__all__ = ["Comparison", "baseline_of", "compare", "finish_plan"]


class Comparison:
    """What :func:`compare` found.

    Args:
        outcome: the values of the models and the tests between them.
        folder: that holds the runs, and gets the report.
        command: to do it again, shown on the page.

    Attributes:
        outcome: as above.
        folder: as above.
    """

    def __init__(self, outcome: Outcome, folder: str, command: str):
        self.outcome, self.folder, self._command = outcome, folder, command

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """A row for each model, by label: every test metric, and behind it ``_se``, its standard
        error over the test users; unrounded. A model that failed has no values."""
        errors = [name for key in self.outcome.metrics for name in (key, f"{key}_se")]
        return numbers(self.outcome).set_index("model")[errors]

    @functools.cached_property
    def tests(self) -> pd.DataFrame:
        """A row for each model but the baseline and each metric: the mean difference over the test
        users, its standard error and 95% interval, and the p-values of the paired t-test, as it is
        and by Holm's method. Empty where no two models have values of the same users."""
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
    """Train and evaluate models on the very same split, each in a process of its own.

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
        return read_outcome(plan, runs, runs.finish(plan, log), baseline)


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
