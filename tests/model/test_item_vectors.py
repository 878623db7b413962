"""Item vectors are what a decoder's last layer multiplies with, without the padding item."""

import pytest
import torch

from build import build
from recbole_evcf.model.models import item_vectors

SMALL = {"hidden_dimension": 16, "embedding_size": 8}


@pytest.mark.parametrize("model", ["GatedHVamp", "MultiVAE", "MultiDAE", "RecVAE", "CDAE"])
def test_an_items_score_moves_with_its_vector_alone(model, tiny):
    network = build(model, "tiny", {**tiny, **SMALL})[2].eval()
    users = {"user_id": torch.arange(1, 9)}
    before = network.full_sort_predict(users).reshape(8, -1)
    vectors = item_vectors(network)
    assert len(vectors) == 40
    # Shares its memory with the decoder.
    vectors[5] += 1
    changed = (network.full_sort_predict(users).reshape(8, -1) != before).any(0)
    assert changed.nonzero().flatten().tolist() == [6]


def test_a_model_without_a_decoder_is_named(tiny):
    with pytest.raises(ValueError, match="EASE has no decoder with item vectors"):
        item_vectors(build("EASE", "tiny", tiny)[2])
