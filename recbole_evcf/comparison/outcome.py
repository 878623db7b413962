"""The outcome of a comparison: each model's values over its seeds, and the tests between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_evcf.comparison.plan import ModelSpec, Plan
from recbole_evcf.comparison.significance import PairedTest, compare_with_baseline
from recbole_evcf.evaluator.metrics import standard_error

__all__ = ["ModelOutcome", "Outcome", "read_outcome"]

DECIMALS = 4


@dataclass(frozen=True)
class ModelOutcome:
    """The finished runs of a model.

    Attributes:
        spec: the model with its settings.
        results: of the finished runs by seed, see :func:`recbole_evcf.comparison.worker.execute`.
        failures: by seed, why a run failed.
        per_user: test metrics (columns) of the users (index), each the mean over the seeds; empty
            where a metric is no mean over users.
        test: test metrics, the mean over the seeds.
        standard_error: of ``test``. Over the users, of each user's mean over the seeds; where
            there are no values of users, over the seeds; missing where there is neither.
        seed_deviation: sample standard deviation over the seeds; empty if there is but one.
        valid: validation metrics, the mean over the seeds.
    """

    spec: ModelSpec
    results: dict[int, dict]
    failures: dict[int, str]
    per_user: pd.DataFrame
    test: dict[str, float]
    standard_error: dict[str, float]
    seed_deviation: dict[str, float]
    valid: dict[str, float]

    @property
    def label(self) -> str:
        """The model's name in tables."""
        return self.spec.label

    @property
    def measured_on(self) -> str:
        """The machines the runs were measured on; earlier versions recorded none."""
        names = (result.get("measured_on", "unknown") for result in self.results.values())
        return "; ".join(dict.fromkeys(names))

    def cost(self, name: str) -> float | None:
        """Return a value of ``costs``, the mean over the seeds; None if missing."""
        return _mean([result["costs"][name] for result in self.results.values()])


@dataclass(frozen=True)
class Outcome:
    """Everything a report shows.

    Attributes:
        plan: what was asked for.
        models: in the order of the plan.
        baseline: label of the model that the others are compared with.
        comparisons: with the baseline.
        metrics: keys of the test metrics that any model has, to their names in tables.
    """

    plan: Plan
    models: tuple[ModelOutcome, ...]
    baseline: str
    comparisons: tuple[PairedTest, ...]
    metrics: dict[str, str]

    @property
    def finished(self) -> list[ModelOutcome]:
        """The models with at least one finished run."""
        return [model for model in self.models if model.results]

    @property
    def failures(self) -> list[tuple[str, int, str]]:
        """Label, seed and reason of each run that failed."""
        return [
            (model.label, seed, reason)
            for model in self.models
            for seed, reason in model.failures.items()
        ]

    def best(self, metric: str) -> set[str]:
        """Labels of the models that no other beats at the printed precision."""
        values = {
            model.label: round(model.test[metric], DECIMALS)
            for model in self.finished
            if metric in model.test
        }
        smaller = any(
            metric.split("@")[0] in result["smaller_is_better"]
            for model in self.finished
            for result in model.results.values()
        )
        best = (min if smaller else max)(values.values())
        return {label for label, value in values.items() if value == best}

    def n_users(self) -> int:
        """Number of test users."""
        return max(
            (result["n_test_users"] for m in self.finished for result in m.results.values()),
            default=0,
        )

    @property
    def has_user_errors(self) -> bool:
        """Whether any model's standard errors are over users."""
        return any(len(model.per_user) > 1 for model in self.finished)


def read_outcome(
    plan: Plan,
    finished: Mapping[str, tuple[dict, pd.DataFrame]],
    failures: Mapping[str, str],
    baseline: str,
) -> Outcome:
    """Combine the finished runs of a plan.

    Args:
        plan: what was asked for.
        finished: by name, what a run found and the test metrics of its users.
        failures: by name, why a run failed.
        baseline: label of the model to compare with.
    """
    splits = [finished[run.name][0]["test_split"] for run in plan.runs if run.name in finished]
    models = []
    for spec in plan.specs:
        kept: dict[int, dict] = {}
        reasons, frames = {}, []
        for run in plan.runs:
            if run.spec is not spec:
                continue
            if run.name not in finished:
                reasons[run.seed] = failures.get(run.name, "it was not run")
                continue
            result, per_user = finished[run.name]
            if result["test_split"] != splits[0]:
                reasons[run.seed] = (
                    "it was tested on other interactions than the first model, as the kind of the "
                    "model or its data reading asks for: the values cannot be compared"
                )
            else:
                kept[run.seed] = result
                frames.append(per_user)
        models.append(_model_outcome(spec, kept, reasons, frames))
    found = {key for model in models for key in model.test}
    metrics = {key: name for key, name in plan.metrics.items() if key in found}
    by_label = {model.label: model.per_user for model in models if model.results}
    tests = compare_with_baseline(by_label, baseline, list(metrics))
    return Outcome(plan, tuple(models), baseline, tuple(tests), metrics)


def _model_outcome(
    spec: ModelSpec,
    results: dict[int, dict],
    failures: dict[int, str],
    frames: list[pd.DataFrame],
) -> ModelOutcome:
    per_user = sum(frames[1:], frames[0]) / len(frames) if frames else pd.DataFrame()
    tests = pd.DataFrame([result["test"] for result in results.values()], dtype=float)
    test = {key: float(tests[key].mean()) for key in tests}
    # RecBole's own values are rounded.
    test.update({key: float(per_user[key].mean()) for key in per_user})
    deviation = _over_seeds(tests, frames) if len(results) > 1 else {}
    errors = {key: value / np.sqrt(len(results)) for key, value in deviation.items()}
    if len(per_user) > 1:
        errors.update({key: standard_error(per_user[key].to_numpy()) for key in per_user})
    valid = pd.DataFrame([result["valid"] for result in results.values()], dtype=float)
    return ModelOutcome(
        spec,
        results,
        failures,
        per_user,
        test,
        errors,
        deviation,
        {key: float(valid[key].mean()) for key in valid},
    )


def _over_seeds(tests: pd.DataFrame, frames: list[pd.DataFrame]) -> dict[str, float]:
    """Return the sample standard deviation over the seeds, of unrounded values if available."""
    unrounded = tests.copy()
    for place, frame in enumerate(frames):
        for key in frame:
            unrounded.loc[place, key] = frame[key].mean()
    return {key: float(unrounded[key].std(ddof=1)) for key in unrounded}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
