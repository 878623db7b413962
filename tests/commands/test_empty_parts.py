"""A split without validation or test part: each command works, or refuses before training."""

import json
from pathlib import Path

import pandas as pd
import pytest

from build import RS
from conftest import config_files
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
def words(tiny):
    """Function from a command, a split of the tiny data set and more to the command's words."""

    def make(command, split, *more):
        settings = {**tiny, "eval_args": {**RS, "split": split, "order": "TO"}, "epochs": 1}
        return [command, "--dataset=tiny", config_files(settings), *(more or WORDS[command])]

    return make


@pytest.fixture
def called(words):
    """Calls a command with such words; the exit code."""
    return lambda *given: cli.main(words(*given))


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
def test_compare_refuses_a_split_without_test_part(words, refused, split):
    said = f"eval_args: split: {split} leaves nothing to test on."
    assert said in refused(*words("compare", split))


@pytest.mark.parametrize("split", NO_VALIDATION)
def test_compare_tests_without_validation_part(called, split, in_process):
    assert called("compare", split) == 0
    assert len(in_process) == 2


@pytest.mark.parametrize("split", [*NO_VALIDATION, *NO_TEST, NEITHER])
def test_tune_refuses_a_split_without_either_part(words, refused, monkeypatch, split):
    monkeypatch.setattr(VAETrainer, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    assert "leaves nothing for validation or for testing." in refused(*words("tune", split))


@pytest.mark.parametrize("command", WORDS)
@pytest.mark.parametrize("shares", [[0.8, 0, 0.2], [0.8, 0.2, 0], [50, 10, 0]])
def test_a_split_by_users_without_held_out_users_is_refused(words, refused, command, shares):
    assert f"eval_args: split: SG: {shares}" in refused(*words(command, {"SG": shares}))
