"""RecBole's ``save_dataset`` and ``save_dataloaders``: refused for ours, announced for its own."""

import logging
import os
import pickle
from pathlib import Path

import pytest
import torch
from recbole.config import Config

from build import RS, SG, build, pairs_of
from recbole_evcf.quick_start import load_data_and_model

BOTH = {"save_dataset": True, "save_dataloaders": True}


def content(settings) -> list:
    """Who has what, and when, in each part of the data, in the parts' order."""
    parts = [loader._dataset for loader in build("BPR", "tiny", settings)[1]]
    return [(pairs_of(part), part.inter_feat["timestamp"].tolist()) for part in parts]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("the-code-ran",)


def write_payload(*paths) -> None:
    for path in paths:
        Path(path).write_bytes(pickle.dumps(Payload()))


KEYS = ("save_dataset", "save_dataloaders", "dataset_save_path", "dataloaders_save_path")
REFUSED = [("HVamp", RS, "HVamp"), ("EASE", SG, r"the split by users \(SG\)")]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("model", "eval_args", "named"), REFUSED)
def test_our_models_and_the_split_by_users_refuse_it(tiny, model, eval_args, named, key):
    asked = {key: "a.pth" if key.endswith("path") else True}
    with pytest.raises(ValueError, match=f"^{key} cannot be used with {named}, .*: remove it; "):
        Config(model, "tiny", config_dict={**tiny, "eval_args": eval_args, **asked})
    assert not os.path.exists("saved") or not os.listdir("saved")


def test_a_model_file_has_no_other_file_unpickled(tiny, monkeypatch):
    for model in ("HVamp", "BPR"):
        _, loaders, _, trainer = build(model, "tiny", {**tiny, "eval_args": RS})
        trainer.fit(loaders[0], loaders[1], saved=True)
        state = torch.load(trainer.saved_model_file, weights_only=True)
        for key in ("dataset_save_path", "dataloaders_save_path"):
            state["config"][key] = "evil.pth"
            state["config"][key.replace("_save_path", "").replace("data", "save_data")] = True
        # RecBole would wait for other processes at this address.
        state["config"].update(local_rank=0, nproc=1, world_size=2, offset=0, ip="x", port=1)
        torch.save(state, f"{model}.pth")
    write_payload("evil.pth", "saved/tiny-Dataset.pth", "saved/tiny-for-BPR-dataloader.pth")
    for model in ("HVamp", "BPR"):
        load_data_and_model(f"{model}.pth")
    assert not os.path.exists("the-code-ran")


class TestRecBolesOwn:
    """Built-in models on RecBole's splits keep RecBole's pickles, which are announced."""

    def test_said_where_it_is_turned_on(self, tiny, caplog):
        caplog.set_level(logging.WARNING)
        settings = {**tiny, "eval_args": RS}
        before = content(settings)
        assert "pickle" not in caplog.text
        for _ in range(2):
            caplog.clear()
            assert content({**settings, **BOTH}) == before
            said = [text for text in caplog.messages if "pickle" in text]
            assert [text.split(" make ")[0] for text in said] == [
                "save_dataset and dataset_save_path",
                "save_dataloaders and dataloaders_save_path",
            ]
            assert all("use only files that you made" in text for text in said)
        names = ["tiny-Dataset.pth", "tiny-for-BPR-dataloader.pth"]
        assert sorted(os.listdir("saved")) == names

    def test_read_only_if_asked_for(self, tiny):
        build("BPR", "tiny", {**tiny, **BOTH})
        write_payload(*Path("saved").iterdir())
        build("BPR", "tiny", tiny)
        assert not os.path.exists("the-code-ran")

    @pytest.mark.parametrize("keys", [["save_dataset"], ["save_dataloaders"], list(BOTH)])
    @pytest.mark.parametrize("key", ["split_seed", "seed", "eval_args"])
    def test_other_splits_are_not_mixed_up(self, tiny, keys, key):
        change = {key: {**RS, "split": {"RS": [6, 2, 2]}} if key == "eval_args" else 7}
        settings = {**tiny, "eval_args": RS}
        saving = dict.fromkeys(keys, True)
        build("BPR", "tiny", {**settings, **saving})
        other = content({**settings, **saving, **change})
        assert other == content({**settings, **change})

    def test_a_corrupt_one_is_a_sentence(self, tiny):
        build("BPR", "tiny", {**tiny, **BOTH})
        for path in Path("saved").iterdir():
            path.write_bytes(path.read_bytes()[:-100])
        for key in BOTH:
            said = rf"{key} or {key[5:]}_save_path .* is corrupt"
            with pytest.raises(ValueError, match=said):
                build("BPR", "tiny", {**tiny, key: True})
