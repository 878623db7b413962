"""Checkpoints hold no code, and give back what was put in."""

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.config import Config

from build import build, trained
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, save_checkpoint, to_plain


def round_trip(value):
    torch.save(to_plain(value), "x")
    return from_plain(torch.load("x", weights_only=True))


@pytest.mark.parametrize("container", ["csr_matrix", "csc_matrix", "csr_array", "coo_matrix"])
def test_sparse_matrices(container):
    matrix = getattr(scipy.sparse, container)(np.array([[0, 1.5], [2, 0], [0, 0]]))
    back = round_trip(matrix)
    assert type(back) is type(matrix)
    np.testing.assert_array_equal(back.toarray(), matrix.toarray())


def test_arrays_numbers_and_nests():
    value = {
        "float": np.float64(0.25),
        "flag": np.bool_(True),
        "array": np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::-1],
        "tokens": np.array(["a", "bb"], dtype=object),
        "matrix": np.matrix([[1.0, 2.0]]),
        "nest": [(1, "x"), None, {"t": torch.ones(2)}],
    }
    back = round_trip(value)
    assert (type(back["float"]), back["flag"]) == (float, True)
    np.testing.assert_array_equal(back["array"], value["array"])
    assert back["array"].dtype == np.int32
    assert back["tokens"].tolist() == ["a", "bb"]
    assert isinstance(back["matrix"], np.matrix)
    assert back["nest"][0] == (1, "x")
    with pytest.raises(TypeError, match="Random"):
        to_plain({"rng": np.random.RandomState(0)})


def test_training_resumes_with_its_kl_weight(tiny):
    _, trainer = trained("GatedHVamp", tiny)
    path = trainer.saved_model_file
    state = torch.load(path, weights_only=True)
    assert state["config"]["model"] == "GatedHVamp"
    assert state["state_dict"].keys() == trainer.model.state_dict().keys()
    assert {"epoch", "cur_step", "best_valid_score", "optimizer"} <= state.keys()
    _, _, resumed, other = build("GatedHVamp", "tiny", {**tiny, "seed": 1})
    other.resume_checkpoint(path)
    assert other.start_epoch == int(resumed.warmup.epoch) == state["epoch"] + 1
    for key, value in state["state_dict"].items():
        torch.testing.assert_close(resumed.state_dict()[key], value)


def test_save_leaves_the_state_as_it_was(tiny):
    config = Config("GatedHVamp", "tiny", config_dict=tiny)
    state = {"config": config, "other_parameter": {"a": np.ones(2)}, "state_dict": {}}
    save_checkpoint(state, "copy.pth")
    assert state["config"] is config
    assert isinstance(state["other_parameter"]["a"], np.ndarray)
    assert load_checkpoint("copy.pth")["config"]["model"] == "GatedHVamp"
