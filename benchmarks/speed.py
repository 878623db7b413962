"""Speed and memory side by side, in one table.

    python benchmarks/speed.py --data=ml-100k --rows=epoch,multivae --repetitions=3

Every case runs in a process of its own, the cases of a row in turn; seconds are medians, ratios
medians over the rounds, memory is what a process had resident at most. Formulations are checked to
give the same loss, gradients or metrics, and their times are not compared else.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

import data
import table
from rows import ROWS, Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    names = list(ROWS) if given.rows == "all" else given.rows.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"--rows: {unknown[0]} is none of {', '.join(ROWS)}.")
    if given.repetitions < 1:
        parser.error("--repetitions must be at least 1.")
    try:
        with _folder(given.folder) as folder:
            found = data.find(given.data, folder)
            run = _run(given, found)
            rows = []
            for name in names:
                run.say(f"row {name}")
                rows += ROWS[name](run)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    lines = [
        f"`{shlex.join(['python', *(sys.argv if arguments is None else arguments)])}`",
        f"data: {found.description}; {_count(given.repetitions)}",
        *table.circumstances(),
    ]
    print(table.terminal(rows))
    print("\n".join(lines[1:]))
    if given.output:
        given.output.write_text(table.markdown(rows, "Speed and memory", lines), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure speed and memory side by side with RecBole and with the published "
        "formulation."
    )
    add = parser.add_argument
    add("--data", default="ml-100k", help="ml-100k, NAME:PATH of atomic files, or generated:"
        "USERSxITEMSxINTERACTIONSxLONGEST")  # fmt: skip
    add("--rows", default="all", help=f"of {','.join(ROWS)}; all")
    add("--repetitions", type=int, default=3)
    add("--output", type=Path, help="a markdown file to write")
    add("--folder", type=Path, help="where generated data are kept, for another run to find")
    add("--memory_limit", type=float, help="GB that a case may take; 85 %% of the machine's")
    add("--train_batches", type=int, help="row load: batches of the epoch that are really done")
    add("--eval_batches", type=int, help="row load: batches of the evaluation, likewise")
    sizes = parser.add_argument_group("sizes, else each row's own")
    sizes.add_argument("--mlp_hidden_size", type=int, nargs="+")
    sizes.add_argument("--latent_dimension", type=int)
    sizes.add_argument("--n_pseudo_inputs", type=int)
    sizes.add_argument("--train_batch_size", type=int)
    return parser


def _run(given: argparse.Namespace, found: data.Data) -> Run:
    keys = ("mlp_hidden_size", "latent_dimension", "n_pseudo_inputs", "train_batch_size")
    sizes = {key: getattr(given, key) for key in keys if getattr(given, key) is not None}
    if given.memory_limit is None:
        limit = 0.85 * psutil.virtual_memory().total
    else:
        limit = 1e9 * given.memory_limit
    batches = given.train_batches, given.eval_batches
    return Run(found, given.repetitions, sizes, int(limit), *batches, _say)


def _count(repetitions: int) -> str:
    return "1 repetition" if repetitions == 1 else f"medians of {repetitions} repetitions"


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
