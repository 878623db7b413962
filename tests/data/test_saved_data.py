"""RecBole's ``save_dataset`` and ``save_dataloaders``: refused for ours, announced for its own."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from build import build
from recbole_evcf.quick_start import load_data_and_model

SAVING = {
    "the data set": {"save_dataset": True},
    "the split": {"save_dataloaders": True},
    "both": {"save_dataset": True, "save_dataloaders": True},
}
RS_ARGS = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
SG_ARGS = {**RS_ARGS, "split": {"SG": [0.5, 0.2, 0.3]}}


def prepared(model, settings):
    config = Config(model, "tiny", config_dict=dict(settings))
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))


def content(loaders) -> list:
    """Who has what in each part, by original ids in the parts' order."""
    found = []
    for loader in loaders:
        feat, name_of = loader._dataset.inter_feat, loader._dataset.id2token
        found += [name_of(field, feat[field].numpy()).tolist() for field in ("user_id", "item_id")]
        found += [feat["timestamp"].tolist(), len(loader)]
    return found


class Payload:
    def __reduce__(self):
        return os.mkdir, ("the-code-ran",)


KEYS = ("save_dataset", "save_dataloaders", "dataset_save_path", "dataloaders_save_path")
REFUSED = [("HVamp", RS_ARGS, "HVamp"), ("EASE", SG_ARGS, r"the split by users \(SG\)")]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("model", "eval_args", "named"), REFUSED)
def test_our_models_and_the_split_by_users_refuse_it(tiny, model, eval_args, named, key):
    asked = {key: "a.pth" if key.endswith("path") else True}
    with pytest.raises(ValueError, match=f"^{key} cannot be used with {named}, .*: remove it; "):
        Config(model, "tiny", config_dict={**tiny, "eval_args": eval_args, **asked})
    assert not os.path.exists("saved") or not os.listdir("saved")


def test_a_model_file_has_no_other_file_unpickled(tiny, monkeypatch):
    for model in ("HVamp", "BPR"):
        _, loaders, _, trainer = build(model, "tiny", {**tiny, "eval_args": RS_ARGS})
        trainer.fit(loaders[0], loaders[1], saved=True)
        state = torch.load(trainer.saved_model_file, weights_only=True)
        for key in ("dataset_save_path", "dataloaders_save_path"):
            state["config"][key] = "evil.pth"
            state["config"][key.replace("_save_path", "").replace("data", "save_data")] = True
        # RecBole would wait for other processes at this address.
        state["config"].update(local_rank=0, nproc=1, world_size=2, offset=0, ip="x", port=1)
        torch.save(state, f"{model}.pth")
    for name in ("evil.pth", "saved/tiny-Dataset.pth", "saved/tiny-for-BPR-dataloader.pth"):
        with open(name, "wb") as file:
            pickle.dump(Payload(), file)
    for model in ("HVamp", "BPR"):
        load_data_and_model(f"{model}.pth")
    assert not os.path.exists("the-code-ran")


class TestRecBolesOwn:
    """Built-in models on RecBole's splits keep RecBole's pickles, which are announced."""

    def test_said_where_it_is_turned_on(self, tiny, caplog):
        caplog.set_level(logging.WARNING)
        settings = {**tiny, "eval_args": RS_ARGS}
        before = content(prepared("BPR", settings))
        assert not [r for r in caplog.records if "pickle" in r.getMessage()]
        for _ in range(2):
            caplog.clear()
            assert content(prepared("BPR", {**settings, **SAVING["both"]})) == before
            said = [r.getMessage() for r in caplog.records if "pickle" in r.getMessage()]
            assert [text.split(" make ")[0] for text in said] == [
                "save_dataset and dataset_save_path",
                "save_dataloaders and dataloaders_save_path",
            ]
            assert all("use only files that you made" in text for text in said)
        names = ["tiny-Dataset.pth", "tiny-for-BPR-dataloader.pth"]
        assert sorted(os.listdir("saved")) == names

    def test_read_only_if_asked_for(self, tiny):
        prepared("BPR", {**tiny, **SAVING["both"]})
        for name in os.listdir("saved"):
            with open(f"saved/{name}", "wb") as file:
                pickle.dump(Payload(), file)
        prepared("BPR", tiny)
        assert not os.path.exists("the-code-ran")

    @pytest.mark.parametrize("saving", SAVING)
    @pytest.mark.parametrize(
        "change",
        [{"split_seed": 7}, {"seed": 7}, {"eval_args": {**RS_ARGS, "split": {"RS": [8, 1, 1]}}}],
        ids=["split_seed", "seed", "shares"],
    )
    def test_other_splits_are_not_mixed_up(self, tiny, saving, change):
        settings = {**tiny, "eval_args": RS_ARGS}
        prepared("BPR", {**settings, **SAVING[saving]})
        other = content(prepared("BPR", {**settings, **SAVING[saving], **change}))
        assert other == content(prepared("BPR", {**settings, **change}))

    def test_a_corrupt_one_is_a_sentence(self, tiny):
        prepared("BPR", {**tiny, **SAVING["both"]})
        for name in os.listdir("saved"):
            path = Path("saved") / name
            path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"save_dataset or dataset_save_path .* is corrupt"):
            prepared("BPR", {**tiny, "save_dataset": True})
        with pytest.raises(ValueError, match=r"save_dataloaders or dataloaders_save_path .* corru"):
            prepared("BPR", {**tiny, "save_dataloaders": True})
