"""Checkpoints hold no code, are whole or absent, and give back what was put in."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from build import build
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, save_checkpoint, to_plain


def round_trip(value, path):
    torch.save(to_plain(value), path)
    return from_plain(torch.load(path, weights_only=True))


@pytest.mark.parametrize("container", ["csr_matrix", "csc_matrix", "csr_array", "coo_matrix"])
def test_sparse_matrices(tmp_path, container):
    matrix = getattr(scipy.sparse, container)(np.array([[0, 1.5], [2, 0], [0, 0]]))
    back = round_trip(matrix, tmp_path / "x")
    assert type(back) is type(matrix)
    np.testing.assert_array_equal(back.toarray(), matrix.toarray())


def test_arrays_numbers_and_nests(tmp_path):
    value = {
        "float": np.float64(0.25),
        "flag": np.bool_(True),
        "array": np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::-1],
        "tokens": np.array(["a", "bb"], dtype=object),
        "matrix": np.matrix([[1.0, 2.0]]),
        "nest": [(1, "x"), None, {"t": torch.ones(2)}],
    }
    back = round_trip(value, tmp_path / "x")
    assert type(back["float"]) is float
    assert back["flag"] is True
    np.testing.assert_array_equal(back["array"], value["array"])
    assert back["array"].dtype == np.int32
    assert back["tokens"].tolist() == ["a", "bb"]
    assert isinstance(back["matrix"], np.matrix)
    assert back["nest"][0] == (1, "x")


def test_what_needs_code_is_refused():
    with pytest.raises(TypeError, match="Random"):
        to_plain({"rng": np.random.RandomState(0)})


@pytest.fixture
def saved(tiny):
    _, loaders, model, trainer = build("GatedHVamp", "tiny", tiny)
    trainer.fit(loaders[0], loaders[1])
    return trainer, model, trainer.saved_model_file


def test_a_checkpoint_is_read_with_weights_only(saved):
    _trainer, model, path = saved
    state = torch.load(path, weights_only=True)
    assert state["config"]["model"] == "GatedHVamp"
    assert state["state_dict"].keys() == model.state_dict().keys()
    assert {"warmup.epoch", "warmup.step"} <= state["state_dict"].keys()
    assert {"epoch", "cur_step", "best_valid_score", "optimizer"} <= state.keys()


def test_training_resumes_with_its_kl_weight(saved, tiny):
    _trainer, _model, path = saved
    epoch = torch.load(path, weights_only=True)["epoch"]
    _, _, resumed, other = build("GatedHVamp", "tiny", {**tiny, "seed": 1})
    other.resume_checkpoint(path)
    assert other.start_epoch == epoch + 1
    assert int(resumed.warmup.epoch) == epoch + 1
    for key, value in torch.load(path, weights_only=True)["state_dict"].items():
        torch.testing.assert_close(resumed.state_dict()[key], value)


def test_a_failed_write_keeps_the_old_file(saved, monkeypatch):
    trainer, _, path = saved
    before = Path(path).read_bytes()

    def fail(state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space"):
        trainer._save_checkpoint(7)
    assert Path(path).read_bytes() == before
    assert [name for name in os.listdir("saved") if name.endswith(".tmp")] == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"not a model", None])
def test_what_is_no_model_file_is_named(saved, tmp_path, content):
    path = tmp_path / "bad.pth"
    whole = Path(saved[2]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=r"bad\.pth"):
        load_checkpoint(str(path))


def test_no_file_and_no_model(tmp_path):
    with pytest.raises(ValueError, match="There is no model file"):
        load_checkpoint(str(tmp_path / "none.pth"))
    torch.save({"a": 1}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no model"):
        load_checkpoint(str(tmp_path / "other.pth"))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_file_does_not_run(tmp_path):
    torch.save({"config": {}, "state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="without running code"):
        load_checkpoint(str(tmp_path / "evil.pth"))
    assert not os.path.exists("executed")


def test_save_leaves_the_state_as_it_was(saved):
    trainer, _, _ = saved
    state = {"config": trainer.config, "other_parameter": {"a": np.ones(2)}, "state_dict": {}}
    save_checkpoint(state, "copy.pth")
    assert state["config"] is trainer.config
    assert isinstance(state["other_parameter"]["a"], np.ndarray)
