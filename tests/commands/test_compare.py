"""``recbole-evcf compare`` and ``reproduce`` by their exit code, output and files."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import config_files, write_inter
from recbole_evcf import cli
from recbole_evcf.comparison import compare

SEED = "must be a whole number of at least 0 and at most 4294967295, not"
UNWRITABLE = "--output=/dev/null/out"
WRONG = [
    (["--models=Pop,GatedHVamp[mlp_hidden=[6]]"], "has no setting 'mlp_hidden'. Did you mean"),
    (["--models=Pop,Vamp[topk=[5]]"], "topk must be the same for all models"),
    (["--models=Pop,Vamp[seed=5]"], "seed must be the same for all models"),
    (["--models=Pop,Vamp[likelihood=poisson]"], "likelihood must be"),
    (["--models=Pop,Vamp[anneal_cap=0.1"], "[ has no counterpart"),
    (["--models=Pop", "--baseline=EASE"], "--baseline: 'EASE' is none of the models Pop"),
    (["--models=Pop", "--seeds=1,x"], "--seeds must be whole numbers"),
    (["--models=Pop", "--seeds=1,1"], "names a seed twice"),
    (["--models=Pop", "--seeds=1", "--seed=2"], "--seed and --seeds"),
    (["--models=Pop", "--seeds=1,12345678901234567890"], f"--seeds {SEED} 1234"),
    (["--models=Pop", "--seed=abc"], f"seed {SEED} 'abc'"),
    (["--models=Pop", "--split_seed=x"], "split_seed must be"),
    (["--models=Pop", "--dataset=nope"], "nope"),
    (["--models=Pop,BPR", "--config_files=protocol/strong_generalization"], "BPR has no way"),
    (["--models=Pop", "--tool=slurm"], "--tool must be local or ray, not 'slurm'"),
    (["--models=Pop", UNWRITABLE], "/dev/null/out cannot be written (Not a directory)"),
    (["table1"], "--dataset is missing"),
    (["table1", "--quick", "--topk=[5]", "--valid_metric=NDCG@5"], "the paper has ndcg@100"),
    (["table1", "--quick", "--likelihood=poisson"], "likelihood must be"),
    (["table1", "--quick", "--seed=[1]"], f"seed {SEED} [1]"),
    (["table1", "--quick", "--seeds=99999999999"], f"--seeds {SEED} 9999"),
    (["table2", "--dataset=nope"], "nope"),
    (["table2", "--quick", UNWRITABLE], "/dev/null/out cannot be written"),
]

# The data set has fewer items than the protocol ranks.
SMALL = ("--topk=[5, 10]", "--valid_metric=NDCG@5")


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_mistake_is_one_line_before_anything_runs(arguments, message, refused, monkeypatch):
    monkeypatch.setattr(compare, "run_in_process", lambda *args: pytest.fail("something ran"))
    command = "compare" if arguments[0].startswith("--") else "reproduce"
    assert message in refused(command, *arguments)
    assert os.listdir() == []


@pytest.mark.parametrize(
    "words", [["compare", "--models=Pop,EASE"], ["reproduce", "table1", "--quick"]]
)
def test_a_fault_names_the_setting_that_may_have_caused_it(words, refused, monkeypatch):
    def meet(*args):
        raise TypeError("no list")

    monkeypatch.setattr("recbole_evcf.commands.comparison.finish_plan", meet)
    error = refused(*words, "--weight_decay=abc")
    assert "error: TypeError: no list (perhaps since weight_decay" in error


@pytest.fixture
def command(tiny):
    # Everything of it in a file, as its values are no words.
    files = config_files(tiny, "protocol/strong_generalization")

    def make(models, *more):
        return ["compare", f"--models={models}", "--dataset=tiny", files, "--output=out", *more]

    return make


def test_a_comparison_with_a_model_that_fails(command, capfd):
    models = "Pop,Vamp[anneal_cap=0.1],EASE[reg_weight='x']"
    assert cli.main(command(models, *SMALL)) == 1
    output = capfd.readouterr()
    assert "Vamp[anneal_cap=0.1]" in output.out
    assert "NDCG@5" in output.out
    assert "failed: EASE[reg_weight='x'], seed 2020: " in output.out
    # What the models say goes into their logs.
    assert "epoch" not in output.out
    assert [line for line in output.err.splitlines() if line.startswith("[2/3]")][1].endswith(" s")
    frame = pd.read_csv("out/comparison.csv")
    assert frame["finished_seeds"].tolist() == [1, 1, 0]
    assert frame["failure"].notna().tolist() == [False, False, True]
    content = json.loads(Path("out/comparison.json").read_text())
    memory = content["runs"][1]["costs"]
    assert 2**6 < memory["memory_before_mib"] <= memory["peak_memory_mib"]
    assert Path("out/report.html").stat().st_size > 10**6
    assert "Traceback" in next(Path("out/runs").glob("EASE*.log")).read_text()
    assert next(Path("out/saved").glob("Vamp-*.pth"))

    assert cli.main(command("Pop,Vamp[anneal_cap=0.1]", *SMALL)) == 0
    assert capfd.readouterr().err.splitlines() == [
        "[1/2] Pop, seed 2020: kept from before",
        "[2/2] Vamp[anneal_cap=0.1], seed 2020: kept from before",
    ]


def test_an_interruption_keeps_what_is_finished(command, in_process, capsys, monkeypatch):
    run_here = compare.run_in_process

    def stopped_at_the_second(run, store):
        if run.spec.label == "EASE":
            raise KeyboardInterrupt
        return run_here(run, store)

    monkeypatch.setattr(compare, "run_in_process", stopped_at_the_second)
    assert cli.main(command("Pop,EASE,Random", "--baseline=EASE", *SMALL)) == 130
    assert "interrupted. Finished runs are kept in out" in capsys.readouterr().err
    assert not os.path.exists("out/comparison.csv")
    monkeypatch.setattr(compare, "run_in_process", run_here)
    assert cli.main(command("Pop,EASE,Random", "--baseline=EASE", *SMALL)) == 0
    assert in_process == ["Pop", "EASE", "Random"]
    content = json.loads(Path("out/comparison.json").read_text())
    assert {test["baseline"] for test in content["comparisons"]} == {"EASE"}


def test_both_tables_share_their_runs(tiny, tmp_path, in_process, capsys):
    rng = np.random.default_rng(2)
    drawn = [(user, rng.choice(110, size=25, replace=False)) for user in range(60)]
    # More items than the protocol ranks.
    rows = [(f"u{user}", f"i{item}", 1) for user, items in drawn for item in items]
    write_inter(tmp_path / "data", "tiny", rows)
    files = config_files({**tiny, "epochs": 1, "mlp_hidden_size": [8]})
    common = ["--dataset=tiny", files, "--output=out"]
    assert cli.main(["reproduce", "table1", *common]) == 0
    output = capsys.readouterr().out
    assert "paper, ML-20M" in output
    assert "A VampPrior beats the standard normal prior" in output
    rows = "WMF, SLIM, CDAE, Mult-VAE, Vamp, H+Vamp, Mult-VAE (Gated), H+Vamp (Gated)"
    assert in_process == rows.split(", ")
    content = json.loads(Path("out/table1-beside-paper.json").read_text())
    assert len(content["statements"]) == 5
    frame = pd.read_csv("out/table1-beside-paper.csv")
    assert frame["ours"].notna().all()
    assert {"table1.csv", "table1.md", "table1.tex", "table1.html"} <= {*os.listdir("out")}
    # The file gives all models one layer, so that both depths of table 2 are the same run.
    assert cli.main(["reproduce", "table2", *common]) == 0
    assert in_process[8:] == ["Vamp (Gated), 1 layer"]
    assert "With gates 2 layers are better than 1 for Vamp" in capsys.readouterr().out
