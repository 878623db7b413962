"""How training and evaluation time grow with users, items, interactions, K and batch.

    python benchmarks/scaling.py --base=4000x2000x200000x500 --output=benchmarks/results/scaling.md

One quantity at a time is varied around a base, on generated data. Beside the seconds stand the
operations of all matrix products (operations.py) and the share of the rate that the machine reaches
in the best of a few fp32 matrix products. ``--output`` also writes a plot beside the table: a PNG
where matplotlib is installed, else a page by plotly.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import data
import table
from generate import Shape
from measure import Case, measure
from operations import Network, evaluation_batch, training_batch

SIZES = {"mlp_hidden_size": [600], "latent_dimension": 200}
SQUARE = 2048
VARIED = ("users", "items", "interactions", "K", "batch")


@dataclass(frozen=True)
class Point:
    """One measurement: the shape of the data, K, the batch, and what is varied."""

    varied: str
    shape: Shape
    k: int
    batch: int

    @property
    def value(self) -> int:
        """Of what is varied."""
        return {"K": self.k, "batch": self.batch}.get(self.varied) or getattr(
            self.shape, self.varied
        )


@dataclass(frozen=True)
class Result:
    """Seconds and operations (FLOP) of an epoch and of an evaluation at a point."""

    point: Point
    seconds: dict[str, float]
    flop: dict[str, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        points = _points(given)
        with tempfile.TemporaryDirectory() as folder:
            rate, results = _measure(points, given, Path(folder))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    command = shlex.join(["python", *(sys.argv if arguments is None else arguments)])
    page = _page(rate, results, [f"`{command}`", *table.circumstances()])
    print(page)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        plot = _plot(results, given.output)
        given.output.write_text(f"{page}\n{plot}\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how GatedHVamp's time grows.")
    add = parser.add_argument
    add("--base", default="2000x2000x100000x500", help="USERSxITEMSxINTERACTIONSxLONGEST")
    add("--n_pseudo_inputs", type=int, default=500)
    add("--train_batch_size", type=int, default=200)
    add("--factors", type=float, nargs="+", default=[1, 2, 4], help="the base is multiplied by")
    add("--vary", nargs="+", choices=VARIED, default=list(VARIED))
    add("--repetitions", type=int, default=3)
    add("--mlp_hidden_size", type=int, nargs="+", default=SIZES["mlp_hidden_size"])
    add("--latent_dimension", type=int, default=SIZES["latent_dimension"])
    add("--output", type=Path, help="a markdown file to write; a plot is written beside it")
    return parser


def _points(given: argparse.Namespace) -> list[Point]:
    found = data.GENERATED.fullmatch(f"generated:{given.base}")
    if not found:
        raise ValueError(f"--base={given.base}: give USERSxITEMSxINTERACTIONSxLONGEST.")
    shape = Shape(*map(int, found.groups()))
    base = Point("", shape, given.n_pseudo_inputs, given.train_batch_size)
    return [_varied(base, name, factor) for name in given.vary for factor in given.factors]


def _varied(base: Point, name: str, factor: float) -> Point:
    shape, k, batch = base.shape, base.k, base.batch
    if name == "K":
        k = round(k * factor)
    elif name == "batch":
        batch = round(batch * factor)
    else:
        shape = replace(shape, **{name: round(getattr(shape, name) * factor)})
    return Point(name, shape, k, batch)


def _measure(points, given, folder: Path) -> tuple[float, list[Result]]:
    hidden, latent = tuple(given.mlp_hidden_size), given.latent_dimension
    largest = max(point.shape.items for point in points)
    products = [
        [SQUARE, SQUARE, SQUARE],
        [given.train_batch_size, hidden[0], largest],
        [largest, given.n_pseudo_inputs, hidden[0]],
    ]
    rate = Case("matrix products", "cases:matrix_rate", {"products": products})
    # The base occurs for each quantity and is measured once.
    cases = {_key(point): _case(point, given, folder) for point in points}
    measured = measure([rate, *cases.values()], given.repetitions, fresh=True, say=_say)
    for one in measured.values():
        if one.error:
            raise RuntimeError(f"{one.name} failed: {one.error}")
    results = []
    for point in points:
        runs = measured[cases[_key(point)].name].results
        seconds = {
            part: statistics.median(run["seconds"][part] for run in runs)
            for part in ("epoch", "evaluation")
        }
        results.append(Result(point, seconds, _flop(point, hidden, latent, runs[0]["counts"])))
    rates = [result["rate"] for result in measured[rate.name].results]
    return max(rates), results


def _key(point: Point) -> Point:
    return replace(point, varied="")


def _case(point: Point, given, folder: Path) -> Case:
    found = data.find(f"generated:{point.shape}", folder)
    settings = {
        **found.settings,
        "mlp_hidden_size": given.mlp_hidden_size,
        "latent_dimension": given.latent_dimension,
        "n_pseudo_inputs": point.k,
        "train_batch_size": point.batch,
    }
    spec = {"model": "GatedHVamp", "dataset": found.name, "settings": settings}
    return Case(f"{point.shape}, K {point.k}, batch {point.batch}", "cases:scaling", spec)


def _flop(point: Point, widths, latent: int, counts: dict) -> dict[str, int]:
    """Of the batches of an epoch and of an evaluation together."""
    network = Network(counts["items"], widths, latent, True, 2, point.k)
    whole = training_batch(network, counts["users"], counts["entries"])
    # The pass of the pseudo-inputs does not depend on the users: it is made in every batch.
    each = training_batch(network, 0, 0)
    more_batches = (counts["train_batches"] - 1) * each.flop
    scored = evaluation_batch(network, counts["ranked_users"], counts["ranked_entries"])
    return {"epoch": whole.flop + more_batches, "evaluation": scored.flop}


def _page(rate: float, results: list[Result], lines: list[str]) -> str:
    text = ["# How time grows", "", *(f"- {line}" for line in lines)]
    text += [f"- best fp32 matrix product: {rate / 1e9:,.0f} GFLOP/s", ""]
    text.append(
        "| varied | value | epoch, s | GFLOP | share of the rate "
        "| evaluation, s | GFLOP | share of the rate |"
    )
    text.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for result in results:
        cells = [result.point.varied, f"{result.point.value:,}"]
        for part in ("epoch", "evaluation"):
            seconds, flop = result.seconds[part], result.flop[part]
            share = flop / seconds / rate
            cells += [f"{seconds:.3f}", f"{flop / 1e9:,.1f}", f"{share:.0%}"]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _series(results: list[Result]) -> dict[str, list[Result]]:
    names = dict.fromkeys(result.point.varied for result in results)
    return {name: [one for one in results if one.point.varied == name] for name in names}


def _plot(results: list[Result], output: Path) -> str:
    """Write the plot; the line of markdown that shows or links it."""
    try:
        import matplotlib.pyplot  # noqa: F401
    except ImportError:
        path = output.with_suffix(".html")
        _plot_page(results, path)
        return f"\n[The same as a plot]({path.name})"
    path = output.with_suffix(".png")
    _plot_image(results, path)
    return f"\n![seconds against each quantity]({path.name})"


def _plot_image(results: list[Result], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    series = _series(results)
    figure, axes = pyplot.subplots(
        1, len(series), figsize=(3.4 * len(series), 3.2), sharey=True, squeeze=False
    )
    for axis, (name, group) in zip(axes[0], series.items()):
        values = [result.point.value for result in group]
        for part in ("epoch", "evaluation"):
            axis.loglog(values, [one.seconds[part] for one in group], marker="o", label=part)
        axis.set_xlabel(name)
        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _plot_page(results: list[Result], path: Path) -> None:
    from plotly.subplots import make_subplots

    series = _series(results)
    figure = make_subplots(cols=len(series), shared_yaxes=True)
    colours = {"epoch": "#1f77b4", "evaluation": "#ff7f0e"}
    for column, (name, group) in enumerate(series.items(), 1):
        for part, colour in colours.items():
            figure.add_scatter(
                x=[result.point.value for result in group],
                y=[result.seconds[part] for result in group],
                name=part,
                legendgroup=part,
                showlegend=column == 1,
                line_color=colour,
                col=column,
                row=1,
            )
        figure.update_xaxes(title=name, type="log", dtick="D2", col=column, row=1)
    figure.update_yaxes(type="log")
    figure.update_yaxes(title="seconds", col=1, row=1)
    figure.update_layout(title="Seconds of a training epoch and of an evaluation")
    figure.write_html(path, include_plotlyjs=True)


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
