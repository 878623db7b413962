"""How good the models are: each tuned on validation users, then all compared on test users, once.

    python benchmarks/quality.py --data=ml-1m-pro_sg:PATH --trials=10 --output=FOLDER
    python benchmarks/quality.py --models="EASE,GatedHVamp[n_pseudo_inputs=200],GatedHVampLinear"

Each model of the list gets the same number of different trials of its shipped search space, or all
of a smaller space, drawn by the same seed; without trials it is taken as it is. Of a model that
takes seconds, ``--exhaust`` may try the whole space. The best settings are then trained with each
seed, and tested. Everything finished is kept in the folder, so that the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import recbole_evcf
from data import find
from recbole_evcf.comparison.plan import ModelSpec, parse_models
from recbole_evcf.model.models import BEST
from recbole_evcf.serving.saved_model import LEARNED_IN_CONSTRUCTOR

METRICS = {
    "metrics": ["NDCG", "TruncatedRecall"],
    "topk": [20, 50, 100],
    "valid_metric": "NDCG@100",
    "metric_decimal_place": 6,
    "show_progress": False,
    "state": "error",
}
SPLIT = ["protocol/strong_generalization"]


def main(words: list[str] | None = None) -> None:
    """Tune, compare, write ``FOLDER/comparison`` and ``FOLDER/tuned.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="ml-100k, or NAME:PATH")
    parser.add_argument("--models", default=",".join(BEST), help="as compare takes them")
    parser.add_argument("--trials", type=int, default=10, help="of each model, or 0")
    parser.add_argument("--exhaust", default="", help="models, A,B, of which all is tried")
    parser.add_argument("--seeds", default="2020,2021,2022")
    parser.add_argument("--bf16", action="store_true", help="train networks in half precision")
    parser.add_argument("--baseline", default="GatedHVampLinear")
    parser.add_argument("--output", default="quality", type=Path)
    arguments = parser.parse_args(words)
    # RecBole would read them as settings.
    del sys.argv[1:]
    data = find(arguments.data, arguments.output)
    files, settings = [*(data.config_files or SPLIT)], {**data.settings, **METRICS}
    chosen = {}
    for spec in parse_models(arguments.models):
        # The others have no steps.
        in_bf16 = arguments.bf16 and spec.model not in LEARNED_IN_CONSTRUCTOR
        own = {**spec.settings, **({"enable_amp": True} if in_bf16 else {})}
        best = tuned(spec, data.name, arguments, files, {**settings, **own})
        chosen[spec.label] = spelled(spec.model, {**best, **own})
    comparison = recbole_evcf.compare(
        [*chosen.values()],
        data.name,
        config_files=files,
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        baseline=chosen[arguments.baseline],
        output=str(arguments.output / "comparison"),
        **settings,
    )
    (arguments.output / "tuned.json").write_text(json.dumps(chosen, indent=1) + "\n")
    print(comparison.table.to_string())
    print(comparison.tests.to_string())
    print(comparison.failures)
    print(comparison.report())


def tuned(
    spec: ModelSpec, dataset: str, arguments: Any, files: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    """The settings that did best on the validation users, of those of the space that are tried."""
    whole = spec.model in arguments.exhaust.split(",")
    if not (whole or arguments.trials):
        return {}
    tuning = recbole_evcf.tune(
        spec.model,
        f"hyper/{spec.model}.hyper",
        dataset,
        output=str(arguments.output / "tuning" / spec.model),
        config_files=files,
        algo="exhaustive",
        max_evals=None if whole else arguments.trials,
        log=print,
        **settings,
    )
    best = tuning.best
    print(f"{spec.label}: {best['params']}, validation {best['score']:.4f}", flush=True)
    return best["params"]


def spelled(model: str, params: dict[str, Any]) -> str:
    """A model with settings of its own, as ``compare`` takes it."""
    return f"{model}[{','.join(f'{key}={value!r}' for key, value in params.items())}]"


if __name__ == "__main__":
    main()
