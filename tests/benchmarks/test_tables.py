"""The tables that the benchmarks print, and what they say of failures and wrong input."""

import math
import subprocess
import sys

import pytest
import unchanged

import gpu
import rows
import scaling
import speed
from generate import Shape
from measure import Case, Measured
from operations import Network, evaluation_batch, training_batch


def test_a_row_of_ml_100k(tmp_path):
    output = tmp_path / "speed.md"
    words = "--data=ml-100k --rows=epoch --repetitions=1 --n_pseudo_inputs=5 --mlp_hidden_size 16"
    words += f" --latent_dimension=4 --train_batch_size=500 --output={output}"
    command = [sys.executable, speed.__file__, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "same gradient to" in done.stderr
    assert done.stdout.startswith("+--")
    assert "data: ml-100k; 1 repetition" in done.stdout
    (line,) = (line for line in output.read_text().splitlines() if line.startswith("| GatedHVamp"))
    assert "one training epoch, K = 5, batch 500, fp32" in line
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    seconds = [float(cell.split(" ")[0]) for cell in cells[2:4]]
    assert float(cells[4][:-1]) == pytest.approx(seconds[1] / seconds[0], rel=0.1, abs=0.1)
    assert cells[5] == "6x"
    assert all(0.1 < float(cell.split(" ")[0]) < 2 for cell in cells[6:8])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--rows=epochs", "epochs is none of epoch, epoch-bf16"),
        ("--repetitions=0", "at least 1"),
        ("--data=nothing", "give ml-100k, NAME:PATH"),
        ("--data=generated:5x5", "generated:USERSxITEMS"),
        ("--data=generated:5x5x100x5", "cannot have that many"),
        ("--data=nothing:/nowhere", "holds neither nothing/nothing.inter"),
    ],
)
def test_wrong_input_ends_in_one_line(argument, message, capsys):
    try:
        code = speed.main([argument])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_different_results_are_not_compared():
    one, other = (Measured(name, [1.0], [{"metrics": {"ndcg@10": 0.5}}]) for name in "ab")
    rows._check_metrics(one, other)
    other.results[0]["metrics"]["ndcg@10"] += 2e-6
    with pytest.raises(RuntimeError, match="a and b differ in ndcg@10"):
        rows._check_metrics(one, other)


def test_a_case_that_ran_out_of_memory_is_a_result():
    ours = Measured("ours", [2.0, 2.2], peak=1_000_000_000)
    theirs = Measured("theirs", peak=20_000_000_000, error="out of memory: stopped at 20.0 GB")
    found = rows._compared("what", "against", ours, theirs)
    assert (found.ours, found.theirs) == ("2.10 s", "out of memory: stopped at 20.0 GB")
    assert math.isnan(found.ratio)
    assert found.memory_share == pytest.approx(0.05)


def test_phases_that_ended_before_the_memory_did_are_compared():
    done = {"phases": {"load": 1.0, "split": 2.0, "epoch": 4.0}, "shares": {"epoch": 0.25}}
    ours = Measured("ours", [7.0], [done])
    part = {"phases": {"load": 3.0, "split": 9.0}, "shares": {}}
    theirs = Measured("theirs", error="out of memory", partial=part)
    found = rows._phases("what", "against", ours, theirs, ("load", "split"))
    assert (found.ours, found.theirs, found.ratio, found.note) == ("3.00 s", "12.0 s", 4, "")
    found = rows._phases("what", "against", ours, theirs, ("epoch",))
    assert (found.ours, found.theirs) == ("4.00 s", "out of memory")
    assert math.isnan(found.ratio)
    assert found.note == "ours: epoch from 25.00% of the batches"


# scaling.py and gpu.py


def results():
    shape = Shape(30, 20, 200, 15)
    points = [scaling.Point(name, shape, k, 16) for name, k in (("K", 5), ("K", 10), ("users", 5))]
    seconds = {"epoch": 2.0, "evaluation": 0.5}
    return [scaling.Result(p, seconds, {"epoch": 10**9, "evaluation": 10**8}) for p in points]


def test_one_quantity_is_varied_at_a_time():
    command = "--base=30x20x200x15 --factors 1 2 --vary users interactions K batch"
    given = scaling._parser().parse_args(command.split())
    points = scaling._points(given)
    assert [(p.varied, p.value) for p in points] == [
        ("users", 30), ("users", 60), ("interactions", 200), ("interactions", 400),
        ("K", 500), ("K", 1000), ("batch", 200), ("batch", 400),
    ]  # fmt: skip
    assert points[1].shape == Shape(60, 20, 200, 15)
    assert len({scaling._key(p) for p in points}) == 5


def test_the_pseudo_inputs_pass_in_every_batch():
    counts = {"items": 20, "users": 32, "entries": 150, "train_batches": 2}
    counts.update(ranked_users=30, ranked_entries=140)
    network = Network(20, (16,), 4, True, 2, 5)
    found = scaling._flop(results()[0].point, (16,), 4, counts)
    each = [training_batch(network, 16, entries) for entries in (100, 50)]
    assert found["epoch"] == sum(one.flop for one in each)
    assert found["evaluation"] == evaluation_batch(network, 30, 140).flop


def test_the_page_gives_shares_of_the_rate():
    page = scaling._page(1e9, results(), [])
    assert "| K | 10 | 2.000 | 1.0 | 50% | 0.500 | 0.1 | 20% |" in page


def test_without_a_gpu_there_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "_cuda_name", lambda: None)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "gpu.py: no CUDA device here; nothing was measured.\n"


@pytest.mark.parametrize(("other", "good"), [(0.2, True), (0.2001, True), (0.201, False)])
def test_metrics_of_a_gpu_are_compared(other, good):
    result = {"device": "cuda", "metrics": {"ndcg@10": other}, "cpu": {"ndcg@10": 0.2}}
    one = Measured("model", [1.0], [result])
    assert gpu._verdict(Case("model", "cases:both_devices", {}), one)[1] is good


# unchanged.py

ONE, OTHER, SLOW = {"ndcg@10": 0.5}, {"ndcg@10": 0.25}, {"error": "TimeoutError: it took too long"}
FAILED = {"error": "AttributeError: dok_matrix"}
SHOWN = "ndcg@10 0.5000"
UNREPAIRED = f"without repairs: {FAILED['error']}"


def test_a_model_is_unchanged_if_every_digit_is():
    def row(plain, plugin, **repaired):
        return unchanged._row("M", {"plain": plain, **repaired, "plugin": plugin})[1:]

    assert row(ONE, ONE) == [SHOWN, SHOWN, "yes", ""]
    assert row(ONE, OTHER) == [SHOWN, "ndcg@10 0.2500", "no", ""]
    assert row(ONE, FAILED) == [SHOWN, "AttributeError", "no", ""]
    assert row(FAILED, ONE, repaired=ONE) == [SHOWN, SHOWN, "yes", UNREPAIRED]
    same = row(FAILED, FAILED, repaired=FAILED)
    assert same == ["AttributeError", "AttributeError", "same error", UNREPAIRED]
    assert row(SLOW, ONE) == ["TimeoutError", SHOWN, "too slow", ""]
