"""A split without validation or test part: each command works, or refuses before training."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recbole_evcf import cli
from recbole_evcf.trainer.trainer import VAETrainer

NO_VALIDATION = ({"RS": [0.9, 0, 0.1]}, {"LS": "test_only"}, {"TS": [0.8, 0, 0.2]})
NO_TEST = ({"RS": [0.8, 0.2, 0]}, {"LS": "valid_only"}, {"TS": [0.8, 0.2, 0]})
NEITHER = {"RS": [1, 0, 0]}
WORDS = {
    "run": ["--model=HVamp"],
    "compare": ["--models=EASE,HVamp"],
    "tune": ["--model=HVamp", "--params_file=hyper/Vamp.hyper", "--output=out"],
}


@pytest.fixture
def called(tiny):
    """Calls a command on the tiny data set, split in a way; the exit code."""

    def call(command, split, *words):
        arguments = {"split": split, "order": "TO", "group_by": "user", "mode": "full"}
        settings = {**tiny, "eval_args": arguments, "epochs": 1}
        Path("tiny.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        return cli.main([command, "--dataset=tiny", "--config_files=tiny.yaml", *words])

    return call


def refused(capsys, sentence) -> bool:
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    return last.startswith("recbole-evcf: error: ") and sentence in last


@pytest.mark.parametrize("model", ["HVamp", "BPR", "EASE"])
@pytest.mark.parametrize("split", [*NO_VALIDATION, *NO_TEST, NEITHER])
def test_run_reports_the_parts_that_there_are(called, model, split):
    assert called("run", split, f"--model={model}", "--result_file=result.json") == 0
    result = json.loads(Path("result.json").read_text(encoding="utf-8"))
    assert bool(result["best_valid_result"]) == (split in NO_TEST)
    assert bool(result["test_result"]) == (split in NO_VALIDATION)


@pytest.mark.parametrize("split", [NO_VALIDATION[0], NO_TEST[0], NEITHER])
def test_recommend_serves_a_model_of_any_split(called, split):
    assert called("run", split, "--model=HVamp", "--checkpoint_dir=saved") == 0
    (model_file,) = Path("saved").glob("*.pth")
    recommend = ["recommend", f"--model_file={model_file}", "--topk=3", "--output=top.csv"]
    assert cli.main(recommend) == 0
    assert len(pd.read_csv("top.csv")) == 3 * 60


@pytest.mark.parametrize("split", [*NO_TEST, NEITHER])
def test_compare_refuses_a_split_without_test_part(called, capsys, split):
    assert called("compare", split, *WORDS["compare"]) == 2
    assert refused(capsys, f"eval_args: split: {split} leaves nothing to test on.")


@pytest.mark.parametrize("split", NO_VALIDATION)
def test_compare_tests_without_validation_part(called, split, in_process):
    assert called("compare", split, *WORDS["compare"]) == 0
    assert len(in_process) == 2


@pytest.mark.parametrize("split", [*NO_VALIDATION, *NO_TEST, NEITHER])
def test_tune_refuses_a_split_without_either_part(called, capsys, monkeypatch, split):
    monkeypatch.setattr(VAETrainer, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    assert called("tune", split, *WORDS["tune"]) == 2
    assert refused(capsys, "leaves nothing for validation or for testing.")


@pytest.mark.parametrize("command", WORDS)
@pytest.mark.parametrize("shares", [[0.8, 0, 0.2], [0.8, 0.2, 0], [50, 10, 0]])
def test_a_split_by_users_without_held_out_users_is_refused(called, capsys, command, shares):
    assert called(command, {"SG": shares}, *WORDS[command]) == 2
    assert refused(capsys, f"eval_args: split: SG: {shares}")
