"""The table from one command, and what it says of failures and wrong input."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

import rows
import speed
from measure import Measured

SPEED = Path(speed.__file__)


def test_a_row_of_ml_100k(tmp_path):
    command = (
        "--data=ml-100k --rows=epoch --repetitions=1 --n_pseudo_inputs=5 --mlp_hidden_size 16 "
        "--latent_dimension=4 --train_batch_size=500"
    )
    output = tmp_path / "speed.md"
    done = subprocess.run(
        [sys.executable, str(SPEED), *command.split(), f"--output={output}"],
        capture_output=True,
        text=True,
    )
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
