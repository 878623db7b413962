"""``recbole-evcf tune`` by its exit code, output and files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from conftest import config_files
from recbole_evcf import cli
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.results import folder_held

SPACE = """\
likelihood choice ['multinomial', 'bernoulli']
mlp_hidden_size choice ['[8]', '[8, 8]']
learning_rate choice [0.001, 0.01]
"""
SG, TABLE = "protocol/strong_generalization", "out/trials.csv"


@pytest.fixture
def command(tiny):
    """Function that writes a search space; the words of the command that searches it."""
    settings = {**tiny, "dataset": "tiny", "model": "Vamp"}
    del settings["mlp_hidden_size"]
    files = config_files({**settings, "topk": [5, 10], "valid_metric": "NDCG@10"}, SG)

    def make(*words, space=SPACE, output="out"):
        Path("space.hyper").write_text(space, encoding="utf-8")
        return ["tune", files, "--params_file=space.hyper", f"--output={output}", *words]

    return make


@pytest.fixture
def tune(command):
    """Tunes with a search space and more words; the exit code."""
    return lambda *words, **more: cli.main(command(*words, **more))


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_the_files_of_a_search(tune, capsys):
    assert tune() == 0
    output = capsys.readouterr()
    best, trials, table = read("out/best.json"), read("out/trials.json"), pd.read_csv(TABLE)
    assert len(trials) == len(table) == output.err.count("of 8: NDCG@10") == 8
    assert "test" not in trials[0]
    winner = table.loc[table["ndcg@10"].idxmax()]
    assert winner["trial"] == best["number"]
    assert winner["ndcg@10"] == best["score"] == best["valid"]["ndcg@10"]
    assert json.loads(winner["mlp_hidden_size"]) == best["params"]["mlp_hidden_size"]

    assert output.out.startswith(f"Best is trial {best['number']}:\n")
    row = next(line for line in output.out.splitlines() if line.startswith("ndcg@10"))
    for part in ("valid", "test"):
        assert f"{best[part]['ndcg@10']:.4f} ± {best[part]['ndcg@10_se']:.4f}" in row

    # The YAML gives the same run, the model file the same model.
    assert cli.main(["run", "--config_files=out/best.yaml", "--result_file=again.json"]) == 0
    again = read("again.json")
    assert again["best_valid_result"] == best["valid"]
    assert again["test_result"] == best["test"]
    config, *_ = load_data_and_model("out/best.pth")
    assert config["mlp_hidden_size"] == best["params"]["mlp_hidden_size"]
    files = "best.json best.pth best.yaml models report.html trials trials.csv trials.json"
    assert sorted(os.listdir("out")) == files.split()


def test_a_finished_search_is_resumed_for_more_trials(tune, command, refused, capsys):
    words = ("--algo=random", "--max_evals=1", "--epochs=1")
    assert tune(*words) == 0
    first = Path("out/trials/0001.json").read_bytes()
    capsys.readouterr()
    # The same again trains nothing; more of it trains the rest.
    assert tune(*words) == 0
    again = capsys.readouterr()
    assert again.err == "out: 1 of 1 trials are done; resuming.\n"
    assert again.out.startswith("Best is trial 1:")
    assert tune("--algo=random", "--max_evals=2", "--epochs=1") == 0
    assert Path("out/trials/0001.json").read_bytes() == first
    assert len(list(Path("out/trials").glob("0*.json"))) == 2
    error = refused(*command("--algo=random", "--max_evals=2", "--epochs=2"))
    assert "out holds a search that differs in epochs (1, now 2): repeat" in error


def test_two_searches_in_one_folder_are_refused(tune, command, refused):
    """They would each keep a trial 1, and one would write over the other's."""
    words = ("--epochs=1", "--algo=random", "--max_evals=1")
    with folder_held("out"):
        assert refused(*command(*words)) == (
            "recbole-evcf: error: The output folder out is in use by another command that is still "
            "running: wait for it, or give another output folder.\n"
        )
        # Another folder is free.
        assert tune(*words, output="other") == 0
    assert os.listdir("out") == []
    assert tune(*words) == 0
    assert tune("--epoch=1") == 2
    assert [name for name in os.listdir("out") if name.endswith(".lock")] == []


def test_the_best_of_another_search_in_the_same_folder(tune):
    words, space = ("--epochs=1", "--max_evals=1"), "learning_rate choice [0.01]\n"
    assert tune(*words, "--anneal_cap=0.1", space=space) == 0
    shutil.rmtree("out/trials")
    # Its best trial has the same number.
    for output in ("out", "fresh"):
        assert tune(*words, "--anneal_cap=1.0", "--seed=7", space=space, output=output) == 0
    after, fresh = read("out/best.json"), read("fresh/best.json")
    assert (after["valid"], after["test"]) == (fresh["valid"], fresh["test"])


def test_a_search_does_not_go_on_with_other_data(tune, command, refused, tmp_path):
    words = ("--algo=random", "--epochs=1", "--max_evals=1")
    assert tune(*words) == 0
    data = tmp_path / "data" / "tiny" / "tiny.inter"
    before = data.read_text()
    data.write_text(before + "u1\ti39\t7\n")
    assert "differs in the files of the data set: " in refused(*command(*words))
    data.write_text(before)
    assert tune(*words) == 0


def test_a_killed_search_goes_on(tune, command):
    words = ["--algo=bayes", "--max_evals=4", "--show_progress=False"]
    assert tune(*words, output="whole") == 0
    started = [sys.executable, "-m", "recbole_evcf", *command(*words, output="parts")]
    process = subprocess.Popen(started, stderr=subprocess.PIPE)
    second = Path("parts/trials/0002.json")
    end = time.monotonic() + 300
    while not second.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    assert process.communicate()[1] is not None
    assert process.returncode == -signal.SIGKILL
    assert not os.path.exists("parts/best.json")
    before = second.read_bytes()
    assert tune(*words, output="parts") == 0
    assert second.read_bytes() == before
    parts, whole = (pd.read_csv(f"{folder}/trials.csv") for folder in ("parts", "whole"))
    assert_frame_equal(parts.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_failed_trials_do_not_end_the_search(tune, capsys):
    space = "learning_rate choice [0.001, 1e30]\n"
    assert tune("--epochs=1", space=space) == 0
    assert capsys.readouterr().err.count("failed: ValueError") == 1
    table = pd.read_csv(TABLE)
    assert sorted(table["status"]) == ["failed", "finished"]
    space = "learning_rate choice [1e30, 2e30]\n"
    assert tune("--epochs=1", space=space, output="none") == 2
    assert "All 2 trials failed, the first with: ValueError" in capsys.readouterr().err


# RecBole's own split, for models that do not fold in.
RS = ["--eval_args={'split': {'RS': [0.8, 0.1, 0.1]}, 'order': 'RO', 'mode': 'full'}"]
RATES = "learning_rate choice [0.1]\n"

WRONG = [
    (["--log=x"], SPACE, "There is no setting 'log'."),
    (["--algo=genetic"], SPACE, "--algo must be one of exhaustive, random, bayes"),
    (["--tool=optuna"], SPACE, "--tool must be hyperopt or ray, not 'optuna'"),
    (["--algo=bayes"], SPACE, "say how many --max_evals"),
    (["--max_evals=0"], SPACE, "--max_evals must be a whole number of at least 1"),
    (["--early_stop=0"], SPACE, "--early_stop must be a whole number of at least 1"),
    ([], "anneal_cap uniform 0,1\n", "anneal_cap is no choice"),
    ([], "anneal_cap choice [0.1\n", "space.hyper, line 1: the range of anneal_cap"),
    ([], "aneal_cap choice [0.1]\n", "Vamp has no setting 'aneal_cap'. Did you mean anneal_cap?"),
    ([], "likelihood choice ['poisson']\n", "space.hyper, likelihood = poisson: likelihood must"),
    ([], "topk choice [[5], [10]]\n", "topk cannot be tuned"),
    ([], "epochs choice [5, 10]\n", "epochs cannot be tuned; it is the same in all trials"),
    ([], "val_interval choice [{'timestamp': '[5,inf)'}]\n", "val_interval cannot be tuned"),
    ([RS[0].replace("0.1]", "0]")], SPACE, "leaves nothing for validation or for testing"),
    (["--likelihood=bernoulli"], SPACE, "space.hyper: likelihood is set for all trials too"),
    (["--params_file=nope.hyper"], SPACE, "There is no params file nope.hyper"),
    (["--data_path=nowhere"], SPACE, "nowhere"),
    (["--eval_step=0"], SPACE, "eval_step must be a whole number of at least 1"),
    (["--resume=True"], SPACE, "resume is no setting of a search"),
    (["--seed=abc"], SPACE, "seed must be a whole number of at least 0"),
    (["--model=BPR", *RS, "--epochs=abc"], RATES, "epochs must be a whole number of at least 1"),
    (["--output=space.hyper/out"], SPACE, "space.hyper/out cannot be written (Not a directory)"),
]


@pytest.mark.parametrize(("words", "space", "message"), WRONG)
def test_a_mistake_is_one_line_before_any_training(
    words, space, message, command, refused, monkeypatch
):
    monkeypatch.setattr("recbole_evcf.tuning.tuning.attempt_trial", None)
    assert message in refused(*command(*words, space=space))
