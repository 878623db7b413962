"""A short run of what must work on every set of packages: a model of ours, four of RecBole's, a
tuner trial, and loading.
"""

import glob
import json

import numpy
import pandas
import recbole
import torch

import recbole_evcf  # noqa: F401  (first: RecBole cannot be imported without it)

# isort: split
from recbole.quick_start import load_data_and_model, objective_function, run_recbole
from recbole.trainer import HyperTuning

SMALL = {"epochs": 2, "show_progress": False, "state": "error", "eval_batch_size": 500_000}
OURS = {"mlp_hidden_size": [32], "latent_dimension": 16, "n_pseudo_inputs": 20}

print(*(f"{package.__name__} {package.__version__}" for package in (recbole, torch, numpy, pandas)))
built_ins = dict.fromkeys(("BPR", "EASE", "LightGCN", "MultiVAE"), SMALL)
for model, settings in {"GatedHVamp": {**SMALL, **OURS}, **built_ins}.items():
    result = run_recbole(model=model, dataset="ml-100k", config_dict=settings)
    print(model, {metric: float(value) for metric, value in result["test_result"].items()})
    assert 0 < result["test_result"]["hit@10"] <= 1

with open("fixed.json", "w", encoding="utf-8") as file:
    json.dump({**SMALL, **OURS, "model": "Vamp", "dataset": "ml-100k"}, file)
tuning = HyperTuning(
    objective_function,
    params_dict={"choice": {"learning_rate": [0.001]}},
    fixed_config_file_list=["fixed.json"],
    algo="exhaustive",
)
tuning.run()
assert len(tuning.params2result) == 1

config, *_ = load_data_and_model(glob.glob("saved/GatedHVamp-*.pth")[0])
assert config["model"] == "GatedHVamp"
print("smoke test passed")
