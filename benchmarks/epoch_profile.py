"""Where the time of a training epoch goes, by torch's profiler: parts of a step, and operations.

    python benchmarks/epoch_profile.py --data=ml-1m-sg:PATH --processes=2
    python benchmarks/epoch_profile.py --data=ml-1m-sg:PATH --bf16

Of several processes the first is profiled. Milliseconds of a step: of its parts by the wall clock
(what the processes exchange includes waiting for the slower), of operations by their own time in
the thread that calls them, which waits for the others.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch

import cases
from data import find
from rows import PUBLISHED_SIZES

# What is named first takes an operation; all else is "many small operations".
KINDS = {
    "exchange and waiting": ("part: sum", "part: gather", "GatherParts", "gloo", "c10d"),
    "Python between operations, and waiting": ("part: ",),
    "matrix products": ("::mm", "::addmm", "::bmm", "::baddbmm", "linear"),
    "random draws": ("random_", "normal_", "uniform_", "bernoulli", "randint"),
    "Adam and norms": ("adam", "Optimizer.", "_norm", "vector_norm"),
    "casts and copies": ("copy_", "::cat", "fill_", "zero_"),
    "gathers and sums of rows": ("embedding_bag", "aten::index", "gather", "scatter", "segment"),
}


def main(words: list[str] | None = None) -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="ml-100k, or NAME:PATH")
    parser.add_argument("--model", default="GatedHVamp")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--epochs", type=int, default=3, help="profiled, after one that is not")
    arguments = parser.parse_args(words)
    # RecBole would read them as settings.
    del sys.argv[1:]
    data = find(arguments.data, Path())
    spec = {
        "model": arguments.model,
        "dataset": data.name,
        "config_files": list(data.config_files or ["protocol/strong_generalization"]),
        "settings": {
            **data.settings,
            **PUBLISHED_SIZES,
            "enable_amp": arguments.bf16,
        },
        "epochs": arguments.epochs,
    }
    shown = cases.in_processes(profiled, spec, arguments.processes)
    for title, times in shown.items():
        print(f"\n| {title} | ms a step |\n| --- | ---: |")
        for name, milliseconds in sorted(times.items(), key=lambda pair: -pair[1]):
            print(f"| {name} | {milliseconds:.1f} |")


def profiled(keys: dict, spec: dict) -> dict[str, dict[str, float]]:
    """Train in this process; return milliseconds by part, by kind of operation, by operation."""
    with cases.joined(keys, spec) as parts:
        _name_parts(parts.trainer)
        parts.trainer._train_epoch(parts.train_data, 0)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            for epoch in range(spec["epochs"]):
                with torch.profiler.record_function("part: whole"):
                    parts.trainer._train_epoch(parts.train_data, 1 + epoch)
        steps = spec["epochs"] * len(parts.train_data)
    by_part, by_kind, by_name = {}, defaultdict(float), {}
    for event in profiler.key_averages():
        own = event.self_cpu_time_total / 1000 / steps
        if event.key.startswith("part: "):
            by_part[event.key.removeprefix("part: ")] = event.cpu_time_total / 1000 / steps
        by_name[event.key] = own
        by_kind[kind_of(event.key)] += own
    largest = sorted(by_name, key=by_name.__getitem__)[-25:]
    return {
        "part of a step": by_part,
        "kind of operation": dict(by_kind),
        "operation": {name: by_name[name] for name in largest},
    }


def kind_of(name: str) -> str:
    """The kind of an operation, by the profiler's name of it."""
    for kind, marks in KINDS.items():
        if any(mark in name for mark in marks):
            return kind
    return "many small operations"


def _name_parts(trainer) -> None:
    """Let the profiler see the parts of a step by their names."""
    owners = {"forward": (trainer.model, "loss_terms"), "optimizer": (trainer.optimizer, "step")}
    if trainer._shares:
        owners["sum of gradients"] = (trainer._shares, "sum_gradients")
        owners["gathering of weights"] = (trainer._shares, "gather_weights")
    for part, (owner, name) in owners.items():
        setattr(owner, name, torch.profiler.record_function(f"part: {part}")(getattr(owner, name)))


if __name__ == "__main__":
    main()
