"""The items of a model come back from its file as they were."""

import json

import numpy as np
import pytest
import torch

from build import build
from recbole_evcf.data.item_catalogue import ItemCatalogue


def test_there_and_back(tmp_path):
    tokens = np.array(["5", 'a "b", ü', "日本", " ", "NaN"], dtype=object)
    torch.save(ItemCatalogue(tokens, np.arange(5)).to_plain(), tmp_path / "x")
    back = ItemCatalogue.from_plain(torch.load(tmp_path / "x", weights_only=True))
    assert back.tokens.tolist() == tokens.tolist()
    assert back.counts.tolist() == [0, 1, 2, 3, 4]
    assert len(back) == 5


def test_of_a_training_part(tiny):
    train = build("Vamp", "tiny", tiny)[1][0]._dataset
    catalogue = ItemCatalogue.from_dataset(train)
    items = train.id2token("item_id", train.inter_feat["item_id"].numpy()).tolist()
    assert {token: items.count(token) for token in catalogue.tokens} == dict(
        zip(catalogue.tokens, catalogue.counts)
    )
    assert "[PAD]" not in catalogue.tokens


@pytest.mark.parametrize("tokens", [["a"], ["a", "a"], {"a": 1}, [["a"], ["b"]], [1, 2]])
def test_parts_that_do_not_fit(tokens):
    with pytest.raises(ValueError, match="item tokens are corrupt"):
        ItemCatalogue.from_plain({"tokens": json.dumps(tokens), "counts": torch.ones(2)})
