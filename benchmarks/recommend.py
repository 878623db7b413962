"""Throughput of ``Recommender`` in users a second, in one process.

    python benchmarks/recommend.py                                     # generated models
    python benchmarks/recommend.py --model_file=saved/GatedHVamp-....pth
    python benchmarks/recommend.py --against=OTHER --repetitions=5    # and another checkout

Each is scored for users with histories of 100 items on average, from tokens in lists to ranked
tokens in a DataFrame, and from a CSV file to a CSV file. The generated models are GatedHVamp with
the published widths (600 and 200) and weights as they start, which take as long as trained ones.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from time import perf_counter

import numpy as np
import pandas as pd
import torch

# Before RecBole is imported.
import recbole_evcf  # noqa: F401
from recbole_evcf import Recommender, cli

SIZES = {"ml-100k": (943, 1_682), "ml-20m": (10_000, 20_108)}
MEAN_LENGTH = 100


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_file", help="measure this model alone")
    parser.add_argument("--users", type=int, default=20_000, help="how many (default 20,000)")
    parser.add_argument("--topk", type=int, default=20)
    parser.add_argument("--against", help="folder of another checkout, measured in turn with this")
    parser.add_argument("--repetitions", type=int, default=1, help="of both (default 1)")
    options = parser.parse_args()
    if options.against:
        others = [f"--{name}={getattr(options, name)}" for name in ("users", "topk")]
        others += [f"--model_file={options.model_file}"] if options.model_file else []
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        for checkout in [options.against, here] * options.repetitions:
            print(f"\n{checkout}", flush=True)
            path = {"PYTHONPATH": os.path.abspath(checkout)}
            command = [sys.executable, __file__, *others]
            subprocess.run(command, env={**os.environ, **path}, check=True)
        return
    sys.argv = sys.argv[:1]
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    print("model                     items   users  Python  users/s  CSV to CSV users/s")
    with tempfile.TemporaryDirectory() as folder:
        if options.model_file:
            _measure(os.path.basename(options.model_file), options.model_file, folder, options)
        for name, (n_users, n_items) in {} if options.model_file else SIZES.items():
            path = _generated(folder, name, n_users, n_items)
            _measure(f"generated as {name}", path, folder, options)


def _generated(folder: str, name: str, n_users: int, n_items: int) -> str:
    """Save a GatedHVamp of a data set's size after no training."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer

    rng = np.random.default_rng(0)
    users = np.concatenate([rng.integers(n_users, size=n_items), np.arange(n_users)])
    items = np.concatenate([np.arange(n_items), rng.integers(n_items, size=n_users)])
    os.makedirs(os.path.join(folder, name))
    table = pd.DataFrame({"user_id:token": users, "item_id:token": items})
    table.to_csv(os.path.join(folder, name, f"{name}.inter"), sep="\t", index=False)
    settings = {
        "data_path": folder,
        "checkpoint_dir": folder,
        "load_col": {"inter": ["user_id", "item_id"]},
        "epochs": 0,
        "state": "error",
        "show_progress": False,
    }
    config = Config("GatedHVamp", name, config_dict=settings)
    data = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, data[0]._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(data[0], show_progress=False)
    return trainer.saved_model_file


def _measure(name: str, model_file: str, folder: str, options: argparse.Namespace) -> None:
    recommender = Recommender.load(model_file)
    rng = np.random.default_rng(1)
    tokens = recommender.item_tokens
    lengths = rng.geometric(1 / MEAN_LENGTH, size=options.users).clip(max=len(tokens))
    lists = [tokens[rng.integers(len(tokens), size=length)].tolist() for length in lengths]
    # The first call sets up what later ones share.
    recommender.recommend(lists[:100], k=options.topk)
    start = perf_counter()
    recommender.recommend(lists, k=options.topk)
    in_python = perf_counter() - start
    histories, output = (os.path.join(folder, each) for each in ("new.csv", "recs.csv"))
    with open(histories, "w", encoding="utf-8") as file:
        file.write("user,item\n")
        for user, items in enumerate(lists):
            file.writelines(f"{user},{item}\n" for item in items)
    command = ["recommend", f"--model_file={model_file}", f"--histories={histories}"]
    start = perf_counter()
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        code = cli.main([*command, f"--topk={options.topk}", f"--output={output}"])
        sys.stdout = sys.__stdout__
    if code:
        raise SystemExit(code)
    by_file = perf_counter() - start
    print(
        f"{name[:24]:<24} {len(tokens):>6,} {options.users:>7,} {in_python:>7.1f}s "
        f"{options.users / in_python:>8,.0f} {by_file:>11.1f}s {options.users / by_file:>8,.0f}"
    )


if __name__ == "__main__":
    main()
