"""Ray Tune's trials against those of hyperopt alone."""

import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal
from recbole.config import Config

from recbole_evcf import cli

pytest.importorskip("ray")


@pytest.fixture
def command(tiny, tmp_path):
    settings = {**tiny, "model": "Vamp", "dataset": "tiny", "epochs": 4, "warmup_epochs": 1}
    # Relative, as users write it: Ray's workers must find it too.
    settings["data_path"] = "data"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (tmp_path / "space.hyper").write_text("learning_rate choice [0.01, 1e30]\n", encoding="utf-8")
    return ["tune", "--config_files=tiny.yaml", "--params_file=space.hyper"]


def test_ray_trains_the_same_trials(command, capsys):
    assert cli.main([*command, "--output=one"]) == 0
    assert cli.main([*command, "--output=two", "--tool=ray", "--cpus_per_trial=0.5"]) == 0
    assert capsys.readouterr().out.count("Best is trial") == 2
    one, two = (pd.read_csv(f"{folder}/trials.csv").set_index("trial") for folder in ("one", "two"))
    columns = ["learning_rate", "status", "ndcg@10", "best_epoch", "epochs", "reason"]
    assert_frame_equal(two[columns], one[columns])
    assert sorted(two["status"]) == ["failed", "finished"]
    assert set(two["epochs"].dropna()) == {4}


def test_asha_waits_for_the_warm_up():
    from recbole_evcf.tuning.ray_search import grace_period

    assert grace_period(Config("Vamp", "ml-100k")) == 100
    assert grace_period(Config("Vamp", "ml-100k", config_dict={"total_anneal_steps": 5})) == 40
    assert grace_period(Config("BPR", "ml-100k", config_dict={"epochs": 5})) == 1


def test_what_ray_does_not_have_is_said_at_once(command, capsys):
    assert cli.main([*command, "--output=out", "--tool=ray", "--gpus_per_trial=64"]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("recbole-evcf: error: --gpus_per_trial=64 is more")
