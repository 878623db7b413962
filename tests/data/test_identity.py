"""The items of a model come back from its file, and it scores no other data than its own."""

import copy
import json

import numpy as np
import pytest
import torch

from build import RS, SG, SIZES, build
from conftest import write_inter
from recbole_evcf.data.identity import ItemCatalogue

SENTENCE = "the model was made for {} values of {}, and the dataloader's data set 'tiny' has others"
SMALL = {"GRU4Rec": {"train_neg_sample_args": None, "eval_args": {"order": "TO"}}}


def made(model, settings, **changes):
    own = {**SIZES.get(model, {}), **SMALL.get(model, {})}
    return build(model, "tiny", {**settings, **own, **changes})


FEWER_ITEMS = {"item_inter_num_interval": "[18,inf)"}
FEWER_USERS = {"val_interval": {"user_id": [f"u{n}" for n in range(59)]}}
OTHERS = [(model, FEWER_ITEMS, 40, "item_id") for model in ("HVamp", "WMF", "EASE", "GRU4Rec")]
OTHERS += [(model, FEWER_USERS, 60, "user_id") for model in ("HVamp", "BPR")]
OTHERS += [("HVamp", {"data_path": "reversed"}, 40, "item_id")]
OTHERS += [(m, {**FEWER_ITEMS, "split_seed": 5}, 40, "item_id") for m in ("HVamp", "EASE")]


@pytest.mark.parametrize(("model", "changes", "number", "field"), OTHERS)
def test_loaders_of_other_users_or_items_are_refused(tiny, tmp_path, model, changes, number, field):
    rows = (tmp_path / "data" / "tiny" / "tiny.inter").read_text(encoding="utf-8").splitlines()[1:]
    write_inter(tmp_path / "reversed", "tiny", [row.split("\t") for row in reversed(rows)])
    settings = {**tiny, "eval_args": SG} if "split_seed" in changes else tiny
    _, own, network, trainer = made(model, settings)
    right = trainer.evaluate(own[2], load_best_model=False)
    for loader in made(model, settings, **changes)[1][1:]:
        with pytest.raises(ValueError, match=SENTENCE.format(number, field)):
            trainer.evaluate(loader, load_best_model=False)
    again = made(model, settings)[1][2]
    assert trainer.evaluate(again, load_best_model=False) == right
    assert copy.deepcopy(network).vocabulary is network.vocabulary


def test_items_there_and_back(tmp_path):
    tokens = np.array(["5", 'a "b", ü', "日本", " ", "NaN"], dtype=object)
    torch.save(ItemCatalogue(tokens, np.arange(5)).to_plain(), tmp_path / "x")
    back = ItemCatalogue.from_plain(torch.load(tmp_path / "x", weights_only=True))
    assert back.tokens.tolist() == tokens.tolist()
    assert back.counts.tolist() == [0, 1, 2, 3, 4]
    assert len(back) == 5


@pytest.mark.parametrize("split", [{"SG": [0.5, 0.2, 0.3]}, {"RS": [0.8, 0.1, 0.1]}])
def test_items_of_a_training_part(tiny, split):
    train = build("Vamp", "tiny", {**tiny, "eval_args": {**RS, "split": split}})[1][0]._dataset
    catalogue = ItemCatalogue.from_dataset(train)
    items = train.id2token("item_id", train.inter_feat["item_id"].numpy()).tolist()
    counts = dict(zip(catalogue.tokens, catalogue.counts))
    assert counts == {token: items.count(token) for token in catalogue.tokens}
    assert "[PAD]" not in catalogue.tokens


CORRUPT = [["a"], ["a", "a"], {"a": 1}, {"a": 1, "b": 2}, "ab", [["a"], ["b"]], [1, 2], []]


@pytest.mark.parametrize("tokens", CORRUPT)
def test_items_that_do_not_fit(tokens):
    with pytest.raises(ValueError, match="item tokens are corrupt"):
        ItemCatalogue.from_plain({"tokens": json.dumps(tokens), "counts": torch.ones(2)})
