"""``recbole-evcf run`` by its exit code and output."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from conftest import config_files
from recbole_evcf import cli

CHECKOUT = Path(__file__).parents[2]

WRONG = [
    (["--model=GatedHVam"], "no model named 'GatedHVam'"),
    (["--dataset=nope"], "nope"),
    (["--likelihood=poisson"], "likelihood must be"),
    (["--config_files=nope.yaml"], "no config file nope.yaml"),
    (["--metrics=['Nope']"], "no metric named 'Nope'"),
    (["--topk=0"], "topk"),
    (["--seed=1", "--seed=2"], "given twice"),
    (["--learning_rate", "0.1"], "settings are written --key=value"),
    (["--load_col={'inter': ['user_id']}"], "load_col leaves out item_id"),
    (["--eval_args={'split': {'RS': [0.8, 0.1, 0.1]}, 'order': 'XO'}"], "XO"),
    (["--field_separator=,", "--state=error"], "ml-100k.inter"),
    (["--split_seed=4294967296"], "split_seed must be a whole number of at least 0 and"),
    (["--nproc=10000", "--gpu_id="], "nproc=10000 processes are more than this machine's"),
    (["--nproc=2", "--model=WMF"], "WMF is not trained by gradients"),
    (["--nproc=2", "--model=MultiVAE", "--gpu_id="], "MultiVAE in several processes on GPUs only"),
    (["--models=Vamp"], "GatedHVampLinear has no setting 'models'. Did you mean model?"),
    (["--result_file=no/r.json"], "no/r.json cannot be written: there is no folder"),
    (["--a=b=c"], "GatedHVampLinear has no setting 'a'."),
    (["--config_files='a.yaml"], "--config_files: a quotation mark is missing in 'a.yaml."),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, refused):
    assert message in refused("run", "--state=error", *arguments)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("weight_decay: x", "perhaps since weight_decay is 'x' and by default '0.0'"),
        ("2020-01-01: 5", "own.yaml: a key must be a string, not '2020-01-01'"),
        ("epochs: &a [*a]", "own.yaml: not valid YAML"),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_file(setting, message, tiny, refused):
    """RecBole does not check its own keys, and meets them at some depth."""
    Path("own.yaml").write_text(setting, encoding="utf-8")
    files = config_files(tiny, "own.yaml")
    assert message in refused("run", "--model=Vamp", "--dataset=tiny", files)


def test_a_sequential_model_runs(tiny, capsys):
    """Its defaults alone are refused by RecBole: a cross entropy takes no negative samples."""
    own = {key: tiny[key] for key in ("data_path", "load_col", "show_progress", "state")}
    words = ["run", "--model=SASRec", "--dataset=tiny", config_files(own), "--epochs=1"]
    small = ["--n_layers=1", "--hidden_size=8", "--inner_size=8", "--MAX_ITEM_LIST_LENGTH=5"]
    assert cli.main([*words, *small, "--train_neg_sample_args=None"]) == 0
    assert capsys.readouterr().out.startswith("metric")


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("user_id:token\titem_id:token\ttimestamp:float", "u1\ti1\tsoon", "line 3"),
        ("user_id:token\titem_id\ttimestamp:float", "u1\ti1\t1", "line 1"),
        ("user_id:token\tmovie:token\ttimestamp:float", "u1\ti1\t1", "item_id"),
        (None, None, "not exist"),
    ],
)
def test_a_malformed_atomic_file(header, line, message, tiny, refused):
    folder = Path(tiny["data_path"]) / "broken"
    folder.mkdir()
    if header:
        (folder / "broken.inter").write_text(f"{header}\nu1\ti2\t1\n{line}\n", encoding="utf-8")
    settings = [f"--{key}={tiny[key]}" for key in ("data_path", "load_col", "state")]
    error = refused("run", "--dataset=broken", *settings)
    assert "broken.inter" in error
    assert message in error


def test_the_table_the_result_file_and_standard_errors(tiny, capsys):
    content = {"dataset": "tiny", "model": "EASE", "topk": [5, 10], "valid_metric": "NDCG@5"}
    command = ["run", config_files({**tiny, **content}, "protocol/strong_generalization")]
    assert cli.main([*command, "--per_user_file=a=b.csv", "--result_file=result.json"]) == 0
    result = json.loads(Path("result.json").read_text(encoding="utf-8"))
    test = result["test_result"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "validation", "test"]
    metrics = [line.split()[0] for line in lines[2:]]
    assert metrics == [name for name in test if not name.endswith("_se")]
    row = next(line for line in lines if line.startswith("ndcg@10"))
    assert row.endswith(f"{test['ndcg@10']:.4f} ± {test['ndcg@10_se']:.4f}")
    assert (result["model"], result["dataset"]) == ("EASE", "tiny")
    assert Path(result["model_file"]).exists()
    per_user = pd.read_csv("a=b.csv")
    assert per_user["ndcg@10"].mean() == pytest.approx(test["ndcg@10"], abs=1e-4)


def test_the_script_of_a_checkout_trains_on_ml_100k(tmp_path):
    small = ["--epochs=1", "--latent_dimension=20", "--mlp_hidden_size=[30]", "--n_pseudo_inputs=9"]
    command = [sys.executable, CHECKOUT / "run_recbole_evcf.py", *small]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0].split() == ["metric", "validation", "test"]
    assert "Train     0" in done.stderr
    assert list((tmp_path / "saved").glob("GatedHVampLinear-*.pth"))
