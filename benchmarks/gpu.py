"""Training and evaluation on a GPU, at the shape of MovieLens-20M.

    python benchmarks/gpu.py --output=benchmarks/results/gpu.md

Prints users per second in training of the plain Mult-VAE (600-200-600, bf16, several batch sizes)
and of GatedHVamp, users per second in evaluation, and the peak of GPU memory; beside them what
NVIDIA published for its optimised VAE-CF on a V100. Checks that the metrics are those of the CPU,
and that nothing in a training batch waits for the device.

``--device=cpu --small`` runs all of it where there is no GPU, for a check of the script.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import data
import table
from generate import ML_20M, Shape
from measure import Case, Measured, measure

NVIDIA = "NVIDIA's optimised VAE-CF, training on one V100, as published"
NVIDIA_USERS_PER_SECOND = 219_000
SMALL = Shape(600, 300, 12_000, 120)
SIZES = {"mlp_hidden_size": [600], "latent_dimension": 200, "n_pseudo_inputs": 1000}
SMALL_SIZES = {"mlp_hidden_size": [32], "latent_dimension": 8, "n_pseudo_inputs": 10}
BATCHES = {"GatedMultiVAE": (2048, 8192, 32768), "GatedHVamp": (200, 2048, 8192)}
SMALL_BATCHES = {"GatedMultiVAE": (200,), "GatedHVamp": (200,)}
CHECKED_BATCHES = 5
LARGEST_RELATIVE_DIFFERENCE = 1e-3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    given = _parser().parse_args(arguments)
    if given.device == "cuda" and not _cuda_name():
        print("gpu.py: no CUDA device here; nothing was measured.", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = (given.folder or Path(scratch)).resolve()
            shape = SMALL if given.small else ML_20M
            text = given.data or f"generated:{shape}"
            lines, problems = _report(data.find(text, folder), given)
    except (ValueError, OSError) as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    command = shlex.join(["python", *(sys.argv if arguments is None else arguments)])
    device = _cuda_name() if given.device == "cuda" else "the processor, not a GPU"
    head = ["# On a GPU", "", f"- `{command}`", f"- device: {device}"]
    page = "\n".join([*head, *(f"- {line}" for line in table.circumstances()), "", *lines])
    print(page)
    if given.output:
        given.output.write_text(page + "\n", encoding="utf-8")
    for problem in problems:
        print(f"gpu.py: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure training and evaluation on a GPU.")
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--small", action="store_true", help="tiny data and networks")
    add("--data", help="as speed.py's; else the shape of ML-20M is generated")
    add("--folder", type=Path, help="where generated data are kept, for another run to find")
    add("--repetitions", type=int, default=3)
    add("--output", type=Path, help="a markdown file to write")
    return parser


def _cuda_name() -> str | None:
    # Not at the top: without a device there is no need to wait for it.
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _report(found: data.Data, given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The lines of the report, and what was found to be wrong."""
    sizes = SMALL_SIZES if given.small else SIZES
    batches = SMALL_BATCHES if given.small else BATCHES
    common = {**found.settings, **sizes, "use_gpu": given.device == "cuda"}
    plain = {**common, "gated": False}
    cases = [
        *(
            _case(found, "GatedMultiVAE", {**plain, "train_batch_size": size, "enable_amp": amp})
            for size in batches["GatedMultiVAE"]
            for amp in (True, False)
        ),
        *(
            _case(found, "GatedHVamp", {**common, "train_batch_size": size, "enable_amp": amp})
            for size in batches["GatedHVamp"]
            for amp in (True, False)
        ),
        _case(found, "GatedMultiVAE", plain, "evaluation"),
        _case(found, "GatedHVamp", common, "evaluation"),
    ]
    checks = [
        _case(found, model, {**settings, "train_batch_size": batches[model][0]}, function)
        for function in ("unsynchronised", "both_devices")
        for model, settings in (("GatedMultiVAE", plain), ("GatedHVamp", common))
    ]
    lines = [f"Data: {found.description}.", ""]
    lines += ["| what | users/s | GPU memory | seconds |", "| --- | ---: | ---: | ---: |"]
    problems = []
    # One at a time: each is to have the whole of the device's memory. What is known is said at
    # once, for the device may be lent for some minutes only.
    for case in cases:
        one = measure([case], given.repetitions)[case.name]
        lines.append(_row(one))
        problems += [f"{one.name}: {one.error}"] if one.error else []
        _say(lines[-1])
    lines += [f"| {NVIDIA} | {NVIDIA_USERS_PER_SECOND:,} | | |", ""]
    for case in checks:
        text, good = _verdict(case, measure([case], 1)[case.name])
        lines.append(f"- {text}")
        problems += [] if good else [text]
        _say(text)
    return lines, problems


def _case(found: data.Data, model: str, settings: dict, function: str = "training_epoch") -> Case:
    spec = {
        "model": model,
        "dataset": found.name,
        "config_files": list(found.config_files),
        "settings": settings,
        "batches": CHECKED_BATCHES,
    }
    name = f"{model}{'' if settings.get('gated', True) else ', ungated'}"
    if function == "training_epoch":
        precision = "bf16" if settings["enable_amp"] else "fp32"
        name += f": training, batch {settings['train_batch_size']}, {precision}"
    else:
        name += f": {function}"
    return Case(name, f"cases:{function}", spec)


def _row(one: Measured) -> str:
    if not one.seconds:
        return f"| {one.name} | {one.error} | | |"
    rate = one.results[0]["users"] / one.median
    memory = f"{one.gpu_peak / 1e9:.2f} GB" if one.gpu_peak else ""
    return f"| {one.name} | {rate:,.0f} | {memory} | {one.median:.3f} |"


def _verdict(case: Case, one: Measured) -> tuple[str, bool]:
    """What a check found, and whether that is good."""
    if one.error:
        return f"{case.name} failed: {one.error}", False
    result = one.results[0]
    if case.function.endswith("unsynchronised"):
        if result["checked"]:
            return f"{case.name}: nothing waited for the device in a training batch", True
        return f"{case.name}: {result['batches']} batches ran; nothing to wait for on a CPU", True
    worst = max(
        abs(value - result["cpu"][name]) / max(abs(result["cpu"][name]), 1e-12)
        for name, value in result["metrics"].items()
    )
    text = f"{case.name}: metrics on {result['device']} and cpu differ by {worst:.1e} relatively"
    return text, worst <= LARGEST_RELATIVE_DIFFERENCE


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
