"""A saved model comes back with the same scores, in this process and in a new one."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_topk

from build import build
from recbole_evcf import quick_start


@pytest.fixture
def trained(tiny):
    _config, loaders, model, trainer = build("GatedHVamp", "tiny", tiny)
    trainer.fit(loaders[0], loaders[1])
    trainer.evaluate(loaders[2])
    return loaders[2], model, trainer.saved_model_file


def test_loaded_model_scores_as_the_saved_one(trained, monkeypatch):
    test_data, model, path = trained
    # What stands on the command line of the program that loads is no setting of the model.
    monkeypatch.setattr("sys.argv", ["prog", "--latent_dimension=3"])
    _, loaded, dataset, _, _, loaded_test = quick_start.load_data_and_model(path)
    users = test_data.uid_list[:9].numpy()
    ours = full_sort_topk(users, model, test_data, 5)
    theirs = full_sort_topk(users, loaded, loaded_test, 5)
    assert torch.equal(ours.indices, theirs.indices)
    assert torch.equal(ours.values, theirs.values)
    assert dataset.id2token("item_id", ours.indices.numpy()).shape == (9, 5)


def test_loading_in_a_new_process(trained):
    test_data, model, path = trained
    users = test_data.uid_list[:4].numpy()
    script = f"""
import json
from recbole_evcf.quick_start import load_data_and_model
from recbole.utils.case_study import full_sort_scores
import numpy as np
_, model, _, _, _, test = load_data_and_model({path!r})
scores = full_sort_scores(np.array({users.tolist()}), model, test)
print("RESULT", json.dumps(scores[:, 1:].nan_to_num(neginf=-999).tolist()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "RESULT" in done.stdout, done.stderr[-2000:]
    from recbole.utils.case_study import full_sort_scores

    expected = full_sort_scores(users, model, test_data)[:, 1:].nan_to_num(neginf=-999)
    np.testing.assert_allclose(
        json.loads(done.stdout.split("RESULT")[1]), expected.tolist(), rtol=1e-5, atol=1e-5
    )


def test_run_returns_the_result(tiny):
    result = quick_start.run("Vamp", "tiny", config_dict=tiny)
    assert 0 < result["test_result"]["ndcg@10"] < 1


def test_recboles_run_is_ours():
    from recbole.quick_start import quick_start as module
    from recbole.quick_start import run

    assert run is module.run is quick_start.run


def test_same_seed_same_result(tiny):
    first, second = (quick_start.run("GatedHVamp", "tiny", config_dict=tiny) for _ in range(2))
    assert first == second
