"""The rows of the speed table: which cases each measures, and what is compared to what."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from data import Data
from measure import Case, Measured, measure, median_ratio
from operations import Network, exchanged, training_share

# RecBole's defaults; its MultiVAE cuts its latent dimension of 128 in two, mean and log-variance.
RECBOLE_SIZES = {
    "mlp_hidden_size": [600],
    "latent_dimension": 64,
    "train_batch_size": 2048,
}
PUBLISHED_SIZES = {
    "mlp_hidden_size": [600],
    "latent_dimension": 200,
    "n_pseudo_inputs": 1000,
    "train_batch_size": 200,
}
BATCHES_OF_USERS = (20, 100, 300, 1000)
LARGEST_DIFFERENCE = {"loss": 1e-4, "gradient": 1e-3}
LARGEST_METRIC_DIFFERENCE = 1e-6
# "As fast as" another, with what one run differs from the next.
AS_FAST = 0.95
LINEAR_MEMORY = 2.2


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: that is measured, and the figure it is compared with.
        against: see ``what``.
        ours: as shown.
        theirs: as shown.
        ratio: how many times ours is better, or NaN.
        at_least: target of the ratio, or None.
        memory_ours: bytes at most, or NaN.
        memory_theirs: likewise.
        memory_at_most: target of the share of memory, or None.
        note: what else must be known.
    """

    what: str
    against: str
    ours: str
    theirs: str
    ratio: float = math.nan
    at_least: float | None = None
    memory_ours: float = math.nan
    memory_theirs: float = math.nan
    memory_at_most: float | None = None
    note: str = ""

    @property
    def memory_share(self) -> float:
        """Our memory over theirs."""
        return self.memory_ours / self.memory_theirs

    @property
    def met(self) -> bool | None:
        """Whether all targets are met; None without one, or without figures."""
        checks = []
        if self.at_least is not None:
            checks.append((self.ratio, self.ratio >= self.at_least))
        if self.memory_at_most is not None:
            checks.append((self.memory_share, self.memory_share <= self.memory_at_most))
        if not checks or any(math.isnan(value) for value, _ in checks):
            return None
        return all(good for _, good in checks)


@dataclass(frozen=True)
class Run:
    """What all rows share.

    Attributes:
        data: the data set.
        repetitions: rounds of each row.
        sizes: config keys given by the user, before each row's own.
        memory_limit: bytes that a case may take.
        train_batches: of a long RecBole epoch, those that are done; or None: all.
        eval_batches: of a long RecBole evaluation, those that are done; or None: all.
        say: is told what goes on.
    """

    data: Data
    repetitions: int
    sizes: dict
    memory_limit: int | None
    train_batches: int | None
    eval_batches: int | None
    say: Callable[[str], None]

    def case(self, name: str, function: str, model: str, settings: dict, **more) -> Case:
        """A case on the data of the run."""
        spec = {
            "model": model,
            "dataset": self.data.name,
            "config_files": list(self.data.config_files),
            "settings": {**self.data.settings, **settings},
        }
        repetitions = more.pop("repetitions", None)
        return Case(name, f"cases:{function}", {**spec, **more}, repetitions)

    def measure(self, *cases: Case, fresh: bool = False) -> list[Measured]:
        """Measure cases in turn, in their order."""
        measured = measure(
            list(cases),
            self.repetitions,
            fresh=fresh,
            memory_limit=self.memory_limit,
            say=self.say,
        )
        return [measured[case.name] for case in cases]


def epoch(run: Run, half_precision: bool = False) -> list[Row]:
    """GatedHVamp against the published formulation, which gives the same loss and gradients."""
    settings = {**PUBLISHED_SIZES, **run.sizes}
    _check_agreement(run, settings)
    amp = {"enable_amp": True} if half_precision else {}
    ours, theirs = run.measure(
        run.case("ours", "training_epoch", "GatedHVamp", {**settings, **amp}),
        run.case("published formulation", "published_epoch", "GatedHVamp", settings),
    )
    k, size = settings["n_pseudo_inputs"], settings["train_batch_size"]
    what = f"GatedHVamp, one training epoch, K = {k}, batch {size}"
    row = _compared(f"{what}, {'bf16' if half_precision else 'fp32'}", "", ours, theirs)
    return [
        replace(
            row,
            against="the published formulation, naively, fp32",
            at_least=12 if half_precision else 6,
            memory_at_most=None if half_precision else 0.5,
        )
    ]


def epoch_in_half_precision(run: Run) -> list[Row]:
    """The same with bf16 autocast, where the processor has it."""
    if not has_bf16():
        return [_left_out("GatedHVamp, one training epoch, bf16", "the processor has no bf16")]
    return epoch(run, half_precision=True)


def multivae(run: Run) -> list[Row]:
    """Plain Mult-VAE against RecBole's own, of the same architecture."""
    if run.data.by_users:
        return [_left_out("GatedMultiVAE ungated, one epoch", "RecBole has no split by users")]
    sizes = {**RECBOLE_SIZES, **run.sizes}
    common = {"learner": "adam", "learning_rate": 0.001, "train_neg_sample_args": None}
    ours = {**sizes, **common, "gated": False, "n_pseudo_inputs": 1}
    theirs = {**sizes, **common, "latent_dimension": 2 * sizes["latent_dimension"]}
    theirs.pop("n_pseudo_inputs", None)
    cases = [run.case("fp32", "training_epoch", "GatedMultiVAE", ours)]
    if has_bf16():
        amp = {**ours, "enable_amp": True}
        cases.append(run.case("bf16", "training_epoch", "GatedMultiVAE", amp))
    cases.append(run.case("RecBole", "training_epoch", "MultiVAE", theirs, plugin=False))
    *measured, recbole = run.measure(*cases)
    rows = []
    for own, target in zip(measured, (2, 4)):
        what = f"GatedMultiVAE ungated, one epoch, batch {sizes['train_batch_size']}, {own.name}"
        row = _compared(what, "RecBole's MultiVAE, same widths, fp32", own, recbole)
        rows.append(replace(row, at_least=target))
    return rows


def evaluation(run: Run) -> list[Row]:
    """Full ranking of all users against RecBole's dataloader; the model is the same."""
    what = "full-ranking evaluation of all users, GatedMultiVAE"
    if run.data.by_users:
        return [_left_out(what, "see the row builtins for the split by users")]
    n_items = _count_items(run)
    settings = {**PUBLISHED_SIZES, **run.sizes, "gated": False}
    cases = [
        run.case("ours", "evaluation", "GatedMultiVAE", settings),
        run.case(
            "RecBole, eval_batch_size 4096",
            "evaluation",
            "GatedMultiVAE",
            {**settings, "eval_batch_size": 4096},
            loader="recbole",
            repetitions=1,
        ),
    ]
    for users in BATCHES_OF_USERS:
        sized = {**settings, "eval_batch_size": users * n_items}
        name = f"RecBole, {users} users a batch"
        cases.append(run.case(name, "evaluation", "GatedMultiVAE", sized, loader="recbole"))
    whole = {**settings, "latent_dimension": 2 * settings["latent_dimension"]}
    for key in ("gated", "n_pseudo_inputs"):
        whole.pop(key, None)
    for users in BATCHES_OF_USERS[1:3]:
        sized = {**whole, "eval_batch_size": users * n_items, "train_neg_sample_args": None}
        cases.append(
            run.case(
                f"RecBole alone, {users} users a batch",
                "evaluation",
                "MultiVAE",
                sized,
                plugin=False,
                repetitions=1,
            )
        )
    ours, default, *larger = run.measure(*cases)
    larger, alone = larger[: len(BATCHES_OF_USERS)], larger[len(BATCHES_OF_USERS) :]
    for other in (default, *larger):
        _check_metrics(ours, other)
    fastest = min(alone, key=lambda one: one.median if one.seconds else math.inf)
    best = min(larger, key=lambda one: one.median if one.seconds else math.inf)
    users = max(4096 // n_items, 1)
    rows = [
        _compared(what, f"RecBole's loader at its default, {users} users a batch", ours, default),
        _compared(what, f"RecBole's loader at the best of {BATCHES_OF_USERS} users", ours, best),
        _compared(what, "RecBole's MultiVAE and evaluation without the plugin", ours, fastest),
    ]
    note = f"best: {best.name.split(', ')[1]}"
    whole_note = f"same widths, other random weights; best: {fastest.name.split(', ')[1]}"
    return [
        replace(rows[0], at_least=20),
        replace(rows[1], at_least=2, note=note),
        replace(rows[2], note=whole_note),
    ]


def builtins(run: Run) -> list[Row]:
    """RecBole's models through the plugin, under the split by users: as fast as ours.

    All at their own default sizes, whatever the run's.
    """
    files = run.data.config_files or ("protocol/strong_generalization",)
    run = replace(run, data=replace(run.data, config_files=files))
    cases = [run.case("GatedMultiVAE", "evaluation", "GatedMultiVAE", {})]
    names = ("MultiVAE", "RecVAE", "EASE", "EDLAE")
    for name in names:
        cases.append(run.case(name, "evaluation", name, {}))
        by_recbole = f"{name}, RecBole's loader"
        cases.append(run.case(by_recbole, "evaluation", name, {}, loader="recbole", repetitions=1))
    ours, *others = run.measure(*cases)
    rows = []
    for fast, slow in zip(others[::2], others[1::2]):
        _check_metrics(fast, slow)
        what = f"{fast.name} through the plugin, held-out users evaluated"
        rate = {"ours": _rate(fast), "theirs": _rate(ours)}
        row = _compared(what, "our GatedMultiVAE, the same users", fast, ours)
        rows.append(replace(row, at_least=AS_FAST, **rate))
        row = _compared(what, "RecBole's loader at its default", fast, slow)
        rows.append(replace(row, ours=_rate(fast), theirs=_rate(slow)))
    return rows


def linear(run: Run) -> list[Row]:
    """EDLAE, against what cannot be avoided: an inverse, and the matrix of item weights."""
    n_items = _count_items(run) - 1
    ours, theirs = run.measure(
        # Ratings and times would only take memory.
        run.case(
            "EDLAE", "linear_weights", "EDLAE", {"load_col": {"inter": ["user_id", "item_id"]}}
        ),
        run.case("LAPACK", "cholesky_inverse", "EDLAE", {}, items=n_items),
        fresh=True,
    )
    what = f"EDLAE trained on {n_items:,} items; memory against the matrix alone"
    row = _compared(what, "LAPACK's spotrf and spotri alone", ours, theirs)
    matrix = 4 * n_items**2
    return [replace(row, at_least=1 / 1.3, memory_theirs=matrix, memory_at_most=LINEAR_MEMORY)]


def untouched(run: Run) -> list[Row]:
    """RecBole's MultiVAE with the plugin imported, against RecBole without it."""
    what = "RecBole's MultiVAE with the plugin imported, one epoch after an evaluation"
    if run.data.by_users:
        return [_left_out(what, "RecBole has no split by users")]
    settings = {"train_neg_sample_args": None}
    name = "epoch_after_evaluation"
    imported, alone = run.measure(
        run.case("imported", name, "MultiVAE", settings),
        run.case("alone", name, "MultiVAE", settings, plugin=False),
    )
    return [replace(_compared(what, "RecBole alone", imported, alone), at_least=AS_FAST)]


def processes(run: Run) -> list[Row]:
    """Two processes of a core each against one of two; and what each of more does, counted."""
    settings = {**PUBLISHED_SIZES, **run.sizes}
    k, latent = settings["n_pseudo_inputs"], settings["latent_dimension"]
    what = f"GatedHVamp, K = {k}, batch {settings['train_batch_size']}"
    given = {"epochs": 3, "repetitions": run.repetitions}
    two, one = run.measure(
        run.case("two", "shared_epochs", "GatedHVamp", settings, processes=2, **given),
        run.case("one", "shared_epochs", "GatedHVamp", settings, processes=1, **given),
    )
    if two.error or one.error:
        return [_left_out(what, f"{two.error or one.error}")]
    found, alone = two.results[0], one.results[0]
    if not math.isclose(found["loss"], alone["loss"], rel_tol=LARGEST_DIFFERENCE["loss"]):
        raise RuntimeError(f"The losses differ: {found['loss']} and {alone['loss']}.")
    seconds = [[result["seconds"] for result in each.results] for each in (two, one)]
    medians = (_seconds(median(each), None) for each in seconds)
    rows = [
        Row(
            f"{what}, one training epoch, two processes of a core each",
            "one process of two cores",
            *medians,
            median_ratio(*seconds),
            at_least=1 / 1.15,
        )
    ]
    network = Network(found["items"], tuple(settings["mlp_hidden_size"]), latent, True, 2, k)
    whole = training_share(network, found["users"], found["entries"], 1).flop
    for count in (2, 4, 8):
        share = training_share(network, found["users"], found["entries"], count).flop
        sent = exchanged(network, found["weights"], count)
        note = f"each sends {sent / 1e6:.0f} MB a step"
        counted = f"{share / 1e9:.1f} GFLOP", f"{whole / 1e9:.1f} GFLOP"
        name = f"{what}, a step, counted, each of {count} processes"
        rows.append(Row(name, "one process", *counted, whole / share, note=note))
    return rows


def load(run: Run) -> list[Row]:
    """From the file to the metrics: GatedHVamp against RecBole's MultiVAE without the plugin."""
    what = "GatedHVamp: file to metrics"
    if run.data.by_users:
        return [_left_out(what, "RecBole has no split by users")]
    bounded = {"train_batches": run.train_batches, "eval_batches": run.eval_batches}
    ours, theirs = run.measure(
        run.case("ours", "whole", "GatedHVamp", {**PUBLISHED_SIZES, **run.sizes}, **bounded),
        run.case("RecBole", "whole", "MultiVAE", {}, plugin=False, **bounded),
        fresh=True,
    )
    against = "RecBole's MultiVAE, without the plugin"
    groups = {
        "load, split, histories": ("load", "split", "histories"),
        "load": ("load",),
        "split and dataloaders": ("split",),
        "histories and model": ("histories",),
        "one epoch": ("epoch",),
        "evaluation": ("evaluation",),
        "in all": ("load", "split", "histories", "epoch", "evaluation"),
    }
    rows = [
        replace(
            _phases(f"{what}, {name}", against, ours, theirs, phases),
            at_least=2 if name == "load, split, histories" else None,
        )
        for name, phases in groups.items()
    ]
    memory = {"memory_ours": _peak(ours), "memory_theirs": _peak(theirs), "memory_at_most": 1 / 3}
    if theirs.error and not ours.error:
        memory["note"] = "; ".join(filter(None, [rows[-1].note, "their peak is a lower bound"]))
    rows[-1] = replace(rows[-1], **memory)
    return rows


# As RecBole alone has to be helped on today's NumPy; without Ray, names stand in for it.
ALONE = """
import importlib.util, sys, types
spec = importlib.util.spec_from_file_location("packages", {path!r})
packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packages)
packages.repair_numpy_names()
if not {ray}:
    sys.modules["ray"] = sys.modules["ray.tune"] = types.ModuleType("ray")
    sys.modules["ray"].tune = sys.modules["ray"]
import recbole.quick_start
"""
ANSWERS = (["--help"], ["--version"], ["run", "--help"], ["trian"], ["compare"])
AT_ONCE = 0.5


def startup(run: Run) -> list[Row]:
    """What a command and an import take before anything is computed, in seconds of this machine."""
    command = [sys.executable, "-m", "recbole_evcf"]
    rows = []
    for words in ANSWERS:
        seconds = _wall(run, [*command, *words])
        what = f"recbole-evcf {' '.join(words)}"
        ratio = AT_ONCE / seconds
        rows.append(Row(what, "half a second", f"{seconds:.2f} s", "0.50 s", ratio, at_least=1))
    path = str(Path(__file__).resolve().parents[1] / "recbole_evcf" / "utils" / "packages.py")
    codes = ["import recbole_evcf", *(ALONE.format(path=path, ray=ray) for ray in (False, True))]
    ours, *theirs = (_wall(run, [sys.executable, "-c", code]) for code in codes)
    for seconds, name in zip(theirs, ("without Ray", "with Ray")):
        against = f"import recbole.quick_start {name}"
        found = f"{ours:.2f} s", f"{seconds:.2f} s"
        rows.append(Row("import recbole_evcf", against, *found, seconds / ours))
    return rows


def _wall(run: Run, command: list[str]) -> float:
    """The median of whole processes, the first one not counted."""
    times = []
    for _ in range(run.repetitions + 1):
        start = perf_counter()
        subprocess.run(command, capture_output=True)
        times.append(perf_counter() - start)
    return median(times[1:])


ROWS: dict[str, Callable[[Run], list[Row]]] = {
    "epoch": epoch,
    "epoch-bf16": epoch_in_half_precision,
    "multivae": multivae,
    "evaluation": evaluation,
    "builtins": builtins,
    "linear": linear,
    "untouched": untouched,
    "load": load,
    "processes": processes,
    "startup": startup,
}


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware (x86), or a CUDA device is there."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        flags = []
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags)) or Path("/dev/nvidia0").exists()


def _check_agreement(run: Run, settings: dict) -> None:
    case = run.case("agreement", "agreement", "GatedHVamp", {**settings, "dropout_prob": 0.0})
    (found,) = replace(run, repetitions=1).measure(case)
    if found.error:
        raise RuntimeError(f"The two formulations could not be compared: {found.error}")
    for name, limit in LARGEST_DIFFERENCE.items():
        difference = found.results[0][name]
        if not difference <= limit:
            raise RuntimeError(
                f"The published formulation and ours differ: {name} by {difference:.1e} "
                f"relatively, {limit:.0e} at most is rounding. Their times are not compared."
            )
        run.say(f"same {name} to {difference:.1e}")


def _check_metrics(one: Measured, other: Measured) -> None:
    if not (one.results and other.results):
        return
    for name, value in one.results[0]["metrics"].items():
        theirs = other.results[0]["metrics"][name]
        if not abs(value - theirs) <= LARGEST_METRIC_DIFFERENCE:
            raise RuntimeError(
                f"{one.name} and {other.name} differ in {name}: {value:.8f} and {theirs:.8f}. "
                "Their times are not compared."
            )


def _count_items(run: Run) -> int:
    settings = {**PUBLISHED_SIZES, **run.sizes}
    case = run.case("items", "item_count", "GatedMultiVAE", settings)
    (found,) = replace(run, repetitions=1).measure(case)
    if found.error:
        raise RuntimeError(f"The data could not be read: {found.error}")
    return found.results[0]["items"]


def _compared(what: str, against: str, ours: Measured, theirs: Measured) -> Row:
    return Row(
        what,
        against,
        _seconds(ours.median, ours.error),
        _seconds(theirs.median, theirs.error),
        median_ratio(ours.seconds, theirs.seconds),
        memory_ours=_peak(ours),
        memory_theirs=_peak(theirs),
    )


def _phases(what: str, against: str, ours: Measured, theirs: Measured, phases) -> Row:
    seconds, notes = [], []
    for name, one in (("ours", ours), ("RecBole", theirs)):
        # A process that ran out of memory had ended some phases before.
        results = one.results or [one.partial or {"phases": {}, "shares": {}}]
        done = [result for result in results if set(phases) <= set(result["phases"])]
        seconds.append([sum(result["phases"][phase] for phase in phases) for result in done])
        shares = done[0]["shares"] if done else {}
        notes += [
            f"{name}: {phase} from {shares[phase]:.2%} of the batches"
            for phase in phases
            if shares.get(phase, 1.0) < 1
        ]
    medians = [Measured("", values).median for values in seconds]
    return Row(
        what,
        against,
        _seconds(medians[0], ours.error),
        _seconds(medians[1], theirs.error),
        median_ratio(*seconds),
        note="; ".join(notes),
    )


def _left_out(what: str, why: str) -> Row:
    return Row(what, "", "", "", note=f"left out: {why}")


def _seconds(median: float, error: str | None) -> str:
    if math.isnan(median):
        return error or "not measured"
    digits = max(0, min(3, 2 - math.floor(math.log10(median)))) if median > 0 else 3
    return f"{median:.{digits}f} s"


def _rate(measured: Measured) -> str:
    if not measured.seconds:
        return measured.error or "not measured"
    return f"{measured.results[0]['users'] / measured.median:,.0f} users/s"


def _peak(measured: Measured) -> float:
    return measured.peak or math.nan
