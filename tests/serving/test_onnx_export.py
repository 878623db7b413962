"""An exported model's scores in ONNX Runtime are the recommender's."""

import json
import sys

import numpy as np
import pytest
import scipy.sparse

from build import trained
from recbole_evcf import Recommender
from recbole_evcf.serving.onnx_export import AUTOENCODERS, export_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

SMALL = {"mlp_hidden_size": [16], "latent_dimension": 8, "hidden_dimension": 16}
DEEP = {"mlp_hidden_size": [16, 12]}


def recommender_of(model, settings, **changes):
    _, trainer = trained(model, {**settings, **SMALL, "epochs": 1, **changes})
    return Recommender.load(trainer.saved_model_file)


def scores_by(recommender, history):
    """Scores of all items as ``recommend`` gives them."""
    frame = recommender.recommend(scipy.sparse.csr_matrix(history), k=40, exclude_seen=False)
    return frame.pivot(index="user", columns="item", values="score")[recommender.item_tokens]


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("GatedHVamp", {}),
        ("HVamp", DEEP),
        ("GatedHVampLinear", {}),
        ("GatedHVampLinear", {"linear_n_items": 15}),
        ("EDLAE", {}),
        *((model, {}) for model in AUTOENCODERS),
    ],
)
def test_scores_in_onnx_runtime(model, changes, tiny):
    recommender = recommender_of(model, tiny, **changes)
    before = recommender.recommend([["i1", "i2"]], k=5)
    export_onnx(recommender, "model.onnx")
    # The recommender stays as it was.
    assert recommender.recommend([["i1", "i2"]], k=5).equals(before)
    onnx.checker.check_model("model.onnx", full_check=True)
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    for n_users in (1, 2, 33):
        history = (rng.random((n_users, 40)) < rng.random((n_users, 1))).astype(np.float32)
        # Who has nothing gets the prior's.
        history[-1] = 0
        (scores,) = session.run(["scores"], {"history": history})
        np.testing.assert_allclose(scores, scores_by(recommender, history), rtol=0, atol=1e-4)
    # What is above 0 is an interaction, whatever the number.
    (again,) = session.run(["scores"], {"history": history * 7.5})
    np.testing.assert_array_equal(again, scores)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["item_tokens"]) == recommender.item_tokens.tolist()
    assert properties["model"] == model


def test_what_cannot_be_exported(tiny, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="EASE cannot be exported"):
        export_onnx(recommender_of("EASE", tiny), "model.onnx")
    recommender = recommender_of("Vamp", tiny)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match="pip install onnx onnxscript"):
        export_onnx(recommender, "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
