"""The outcome of a comparison: one table of the models' values, and paired tests between models."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from recbole_evcf.comparison.plan import Plan
from recbole_evcf.evaluator.metrics import SE_SUFFIX, standard_error

CONFIDENCE = 0.95
# The costs in the table, and their headings.
COSTS = {
    "training_seconds": "training, s",
    "total_seconds": "with validation, s",
    "training_users_per_second": "users/s, training",
    "evaluation_users_per_second": "users/s, evaluation",
    "peak_memory_mib": "peak memory, MiB",
    "memory_before_mib": "before the model, MiB",
    "peak_gpu_memory_mib": "peak GPU memory, MiB",
}
OTHER_SPLIT = (
    "it was tested on other interactions than the first model, as the kind of the model or its "
    "data reading asks for: the values cannot be compared"
)


@dataclass(frozen=True)
class Outcome:
    """Everything that a report shows.

    Attributes:
        runs: label, seed and what :func:`~recbole_evcf.comparison.worker.execute` returned of each
            finished run.
        failures: label, seed and reason of each run that failed.
        users: by label of a finished model, the test metrics (columns) of the users (index), each
            the mean over the seeds; empty where a metric is no mean over users.
        metrics: keys of the test metrics that any model has, to their names in tables.
        values: a row per model, by label, unrounded: ``finished_seeds``; ``failure``; each test
            metric, the mean over the seeds, followed by ``_se`` and ``_seed_sd``; ``valid_`` and
            each metric; ``epochs``, the costs, ``measured_on``. ``_se`` is the standard error over
            the users, of each user's mean over the seeds; without values of users, over the seeds.
        tests: see :func:`paired_tests`.
    """

    plan: Plan
    runs: list[tuple[str, int, dict[str, Any]]]
    failures: list[tuple[str, int, str]]
    users: dict[str, pd.DataFrame]
    metrics: dict[str, str]
    values: pd.DataFrame
    tests: pd.DataFrame

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of ``values`` of the models with a finished run, and their labels, ``model``."""
        return self.values.loc[list(self.users)].reset_index()

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.plan.settings["dataset"]

    @property
    def n_users(self) -> int:
        """Number of test users."""
        return max((result["n_test_users"] for _, _, result in self.runs), default=0)

    def best(self, metric: str) -> set[str]:
        """Return the labels of the models that no other beats at the printed precision."""
        printed = self.values[metric].map("{:.4f}".format).astype(float)
        name = metric.split("@")[0]
        smaller = any(name in result["smaller_is_better"] for _, _, result in self.runs)
        return set(printed.index[printed == (printed.min() if smaller else printed.max())])


def read_outcome(
    plan: Plan,
    finished: Mapping[str, tuple[dict[str, Any], pd.DataFrame]],
    failures: Mapping[str, str],
) -> Outcome:
    """Combine the runs of a plan: by name, what a run found and the test metrics of its users, or
    why it failed."""
    runs, failed, rows, split = [], [], [], None
    frames: dict[str, list[pd.DataFrame]] = {}
    for run in plan.runs:
        label = run.spec.label
        result, frame = finished.get(run.name, ({}, None))
        split = split or result.get("test_split")
        if frame is None or result["test_split"] != split:
            failed.append((label, run.seed, failures.get(run.name, OTHER_SPLIT)))
            continue
        runs.append((label, run.seed, result))
        frames.setdefault(label, []).append(frame)
        valid = {f"valid_{key}": value for key, value in result["valid"].items()}
        others = {"epochs": len(result["curve"]), "measured_on": result["measured_on"]}
        # RecBole rounds the test metrics, and the users' are not rounded.
        row = {"model": label, **result["test"], **frame.mean(), **valid}
        rows.append({**row, **result["costs"], **others})
    users = {label: sum(each[1:], each[0]) / len(each) for label, each in frames.items()}
    found = {key for _, _, result in runs for key in result["test"]}
    metrics = {key: name for key, name in plan.metrics.items() if key in found}
    values = _values(rows, users, list(metrics)).reindex([spec.label for spec in plan.specs])
    counts = {label: len(each) for label, each in frames.items()}
    values.insert(0, "finished_seeds", [counts.get(label, 0) for label in values.index])
    values.insert(1, "failure", pd.Series({label: why for label, _, why in reversed(failed)}))
    tests = paired_tests(users, plan.baseline, list(metrics))
    return Outcome(plan, runs, failed, users, metrics, values, tests)


def _values(
    rows: list[dict[str, Any]], users: Mapping[str, pd.DataFrame], metrics: list[str]
) -> pd.DataFrame:
    """Return the means and errors of the finished models, from a row per run."""
    numbers = [*(f"valid_{key}" for key in metrics), "epochs", *COSTS]
    table = pd.DataFrame(rows, columns=["model", *metrics, *numbers, "measured_on"])
    by_model = table.astype(dict.fromkeys([*metrics, *numbers], float)).groupby("model", sort=False)
    errors = by_model[metrics].sem()
    for label, frame in users.items():
        if len(frame) > 1:
            errors.loc[label, list(frame)] = frame.sem()
    machines = by_model["measured_on"].agg(lambda names: "; ".join(dict.fromkeys(names)))
    spread = by_model[metrics].std().add_suffix("_seed_sd")
    means = by_model.mean(numeric_only=True)
    values = pd.concat([means, errors.add_suffix(SE_SUFFIX), spread, machines], axis=1)
    order = [f"{key}{suffix}" for key in metrics for suffix in ("", SE_SUFFIX, "_seed_sd")]
    return values[[*order, *numbers, "measured_on"]]


def paired_tests(
    users: Mapping[str, pd.DataFrame], baseline: str, metrics: Sequence[str]
) -> pd.DataFrame:
    """Test every other model against the baseline, on every metric.

    Args:
        users: by label, the metrics (columns) of the test users (index).
        baseline: label of a model.
        metrics: names of columns.

    Returns:
        metric by metric, model by model: ``label``, ``baseline``, ``metric``, ``n_users``, what
        :func:`paired_test` returns, and ``p_corrected`` by Holm's method for all rows. A model
        without values of the very same users, two at least, is left out.
    """
    base = users.get(baseline, pd.DataFrame())
    tests = pd.DataFrame(
        {
            "label": label,
            "baseline": baseline,
            "metric": metric,
            "n_users": len(base),
            **paired_test(frame[metric], base[metric]),
        }
        for metric in metrics
        for label, frame in users.items()
        if label != baseline and metric in frame and metric in base
        if len(frame) == len(base) > 1 and frame.index.isin(base.index).all()
    )
    return tests.assign(p_corrected=holm(tests["p_value"].to_numpy())) if len(tests) else tests


def paired_test(values: pd.Series, base: pd.Series) -> dict[str, float]:
    """Test the difference of two models on the same users by Student's paired t-test.

    Args:
        values, base: a metric by user, of the same users in any order.

    Returns:
        ``difference``, the mean of the values less the base; its ``standard_error``; ``low`` and
        ``high`` of its 95% interval; the two-sided ``p_value``. All but the difference are NaN for
        a single user, who has no spread.
    """
    differences = (values - base.reindex(values.index)).to_numpy()
    mean, error = float(differences.mean()), standard_error(differences)
    if error > 0:
        test = stats.ttest_1samp(differences, 0.0)
        low, high = map(float, test.confidence_interval(CONFIDENCE))
        p = float(test.pvalue)
    else:
        # Student's t is undefined: there is one user, or all agree.
        low = high = mean + error
        p = math.nan if math.isnan(error) else float(mean == 0)
    return {"difference": mean, "standard_error": error, "low": low, "high": high, "p_value": p}


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p-values, (tests,), by Holm's step-down method (1979), which bounds the chance of
    one false alarm among all: with p sorted upwards, the greatest of min(1, (m - j) p_j) up to
    each place j = 0, 1, ..., m - 1."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected
