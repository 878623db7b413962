"""A saved model comes back with the same scores, in this process and in a new one."""

import ast
import json
import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.quick_start import objective_function, run_recbole
from recbole.trainer import HyperTuning
from recbole.utils import get_model
from recbole.utils.case_study import full_sort_topk

import recbole_evcf
from build import RS, SG, python, trained
from recbole_evcf import quick_start
from recbole_evcf.data.histories import Histories


@pytest.mark.parametrize("model", ["BPR", "Vamp"])
def test_results_are_plain_floats_on_one_line(tiny, caplog, model):
    settings = {**tiny, "epochs": 1, "state": "info", "standard_error": True}
    with caplog.at_level(logging.INFO):
        result = run_recbole(model, "tiny", config_dict=settings)
    for words, key in (("best valid ", "best_valid_result"), ("test result", "test_result")):
        assert type(result[key]) is dict
        assert {type(value) for value in result[key].values()} == {float}
        lines = [text for text in caplog.messages if words in text]
        assert len(lines) == 1
        assert ast.literal_eval(lines[0].split(": ", 1)[1]) == result[key]
    assert type(result["best_valid_score"]) is float


@pytest.mark.parametrize(
    ("model", "learns"),
    [("EDLAE", "item_weights"), ("WMF", "fold_in"), ("GatedHVampLinear", "item_weights")],
)
@pytest.mark.parametrize("split", [RS, SG])
def test_a_model_that_comes_back_does_not_learn_again(tiny, monkeypatch, model, learns, split):
    settings = {"reg_exponent": 1.0} if model == "WMF" else {}
    loaders, trainer = trained(model, {**tiny, **settings, "eval_args": split, "epochs": 1})
    users = loaders[2].uid_list[:5]
    expected = trainer.model.eval().full_sort_predict({"user_id": users})
    module = sys.modules[get_model(model).__module__]
    given = []
    original = getattr(module, learns)

    def watched(*args, **kwargs):
        given.extend(len(each.columns) for each in args if isinstance(each, Histories))
        return original(*args, **kwargs)

    monkeypatch.setattr(module, learns, watched)
    _, loaded, *_ = quick_start.load_data_and_model(trainer.saved_model_file)
    assert not any(given)
    scores = loaded.eval().full_sort_predict({"user_id": users})
    assert torch.equal(scores, expected)
    # By which people without a history are recommended to.
    counts = trainer.model.item_catalogue.counts
    assert counts.any()
    np.testing.assert_array_equal(loaded.item_catalogue.counts, counts)


def test_recboles_hyper_tuning_prints_plain_floats(tiny, capsys):
    settings = {**tiny, "epochs": 1, "model": "BPR", "dataset": "tiny"}
    Path("fixed.yaml").write_text(json.dumps(settings))
    way = {"fixed_config_file_list": ["fixed.yaml"], "algo": "random", "max_evals": 2}
    space = {"uniform": {"learning_rate": [0.001, 0.01]}}
    tuning = HyperTuning(objective_function, params_dict=space, **way)
    tuning.run()
    printed = capsys.readouterr().out
    assert any(str(found["test_result"]) in printed for found in tuning.params2result.values())
    assert not re.search(r"np\.|OrderedDict", printed)


def test_the_log_holds_every_setting_once_in_few_lines(tiny):
    config = Config("HVamp", "tiny", config_dict=tiny)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(config)).splitlines()
    settings = dict(config.final_config_dict)
    assert len(lines) == 6
    assert lines[0] == f"{settings.pop('model')} on {settings.pop('dataset')}"
    for key, value in settings.items():
        assert sum(line.count(f" {key}={value}") for line in lines) == 1, key
    assert "\n" not in str(create_dataset(config))


def test_loaded_model_scores_as_the_saved_one(tiny, monkeypatch):
    (*_, test_data), trainer = trained("GatedHVamp", tiny)
    trainer.evaluate(test_data)
    model, path = trainer.model, trainer.saved_model_file
    # What is on the command line of the program that loads is no setting of the model.
    monkeypatch.setattr("sys.argv", ["prog", "--latent_dimension=3"])
    _, loaded, dataset, _, _, loaded_test = quick_start.load_data_and_model(path)
    users = test_data.uid_list[:9].numpy()
    ours = full_sort_topk(users, model, test_data, 5)
    theirs = full_sort_topk(users, loaded, loaded_test, 5)
    assert torch.equal(ours.indices, theirs.indices)
    assert torch.equal(ours.values, theirs.values)
    assert dataset.id2token("item_id", ours.indices.numpy()).shape == (9, 5)
    script = f"""
import json
from recbole_evcf.quick_start import load_data_and_model
from recbole.utils.case_study import full_sort_topk
import numpy as np
_, model, _, _, _, test = load_data_and_model({path!r})
print("RESULT", json.dumps(full_sort_topk(np.array({users.tolist()}), model, test, 5)[0].tolist()))
"""
    there = json.loads(python(script).split("RESULT")[1])
    np.testing.assert_allclose(there, ours.values.tolist(), rtol=1e-5, atol=1e-5)


def test_recboles_run_is_ours_and_the_same_seed_gives_the_same_result(tiny):
    from recbole.quick_start import quick_start as module
    from recbole.quick_start import run

    assert run is module.run is quick_start.run
    first, second = (run("GatedHVamp", "tiny", config_dict=tiny) for _ in range(2))
    files = [result.pop("model_file") for result in (first, second)]
    assert first == second
    assert 0 < first["test_result"]["ndcg@10"] < 1
    assert all(map(os.path.exists, files))
    assert run("Vamp", "tiny", config_dict=tiny, saved=False)["model_file"] is None


@pytest.mark.parametrize("model", ["EASE", "BPR", "HVamp"])
def test_the_front_door_runs_as_the_command_does(tiny, model):
    Path("more.yaml").write_text(json.dumps({**tiny, "model": model, "dataset": "tiny"}))
    files = ["protocol/strong_generalization"] * (model != "BPR")
    result = recbole_evcf.run(config_files=[*files, "more.yaml"], epochs=1)
    assert 0 < result["test_result"]["ndcg@10" if model == "BPR" else "ndcg@100"] < 1
    assert os.path.basename(result["model_file"]).startswith(model)
    # The state of a run that has ended is removed.
    assert not list(Path("saved").glob("*.resume"))
    with pytest.raises(ValueError, match="has no setting 'epoch'"):
        recbole_evcf.run(config_files="more.yaml", epoch=1)
