"""RecBole's ``save_dataset`` and ``save_dataloaders`` with the split by users and with our models.

The files hold no code, and are never used for other settings, another seed or other data.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.quick_start import run_recbole
from recbole.utils import init_seed

from build import build
from conftest import parts_made_elsewhere
from recbole_evcf.data.digest import digest_of_files
from recbole_evcf.data.saved_dataset import LOADING_KEYS
from recbole_evcf.quick_start import load_data_and_model

SAVING = {
    "the data set": {"save_dataset": True},
    "the split": {"save_dataloaders": True},
    "both": {"save_dataset": True, "save_dataloaders": True},
}
# Models of ours and of RecBole's by users, and ours on RecBole's split.
PATHS = {"ours, SG": ("HVamp", True), "EASE, SG": ("EASE", True), "ours, RS": ("HVamp", False)}
SG_ARGS = {"split": {"SG": [0.5, 0.2, 0.3]}, "order": "RO", "group_by": "user", "mode": "full"}
RS_ARGS = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}


def settings_of(tiny, path: str, **more) -> tuple[str, dict]:
    model, by_users = PATHS[path]
    return model, {**tiny, "eval_args": SG_ARGS if by_users else RS_ARGS, **more}


def prepared(model, settings):
    config = Config(model, "tiny", config_dict=dict(settings))
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))


def content(loaders) -> list:
    """Who has what in each part, by original ids in the parts' order, and what is shown."""
    found = []
    for loader in loaders:
        dataset = loader._dataset
        feat = dataset.inter_feat
        names = [dataset.id2token(f, feat[f].numpy()) for f in (dataset.uid_field, "item_id")]
        found.append(list(zip(*(each.tolist() for each in names))))
        found.append({name: feat[name].tolist() for name in feat.columns if name != "item_id"})
        for name in ("fold_in", "input_histories"):
            if hasattr(dataset, name):
                found.append(getattr(dataset, name).matrix().toarray().tolist())
        found.append(dataset.field2id_token["item_id"].tolist())
        found.append(len(loader))
    return found


def expected(tiny, model, settings):
    """What the settings give where nothing was saved."""
    plain = {key: value for key, value in settings.items() if not key.startswith("save_")}
    return content(prepared(model, {**plain, "checkpoint_dir": "nothing"}))


@pytest.fixture
def loaded_anew(monkeypatch):
    """How often a data set was read from its atomic files, and how often a split was made."""
    counts = {"data": 0, "split": 0}

    def counting(what, original):
        def count(*arguments, **options):
            counts[what] += 1
            return original(*arguments, **options)

        return count

    from recbole_evcf.data import strong_generalization

    monkeypatch.setattr(Dataset, "_from_scratch", counting("data", Dataset._from_scratch))
    monkeypatch.setattr(
        strong_generalization, "split_users", counting("split", strong_generalization.split_users)
    )
    monkeypatch.setattr(Dataset, "split_by_ratio", counting("split", Dataset.split_by_ratio))
    return counts


def rewritten(tiny, change) -> None:
    path = Path(tiny["data_path"]) / "tiny" / "tiny.inter"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *change(lines[1:])]) + "\n")


def with_users_renamed(lines):
    """As many bytes as before."""
    return [line.replace("u1\t", "u2\t") if line.startswith("u1\t") else line for line in lines]


CHANGES = {
    "seed": {"seed": 7},
    "split_seed": {"split_seed": 7},
    "seed, the split's own": {"split_seed": 2020},
    "shares": {"eval_args": {**SG_ARGS, "split": {"SG": [0.6, 0.2, 0.2]}}},
    "counts": {"eval_args": {**SG_ARGS, "split": {"SG": [-1, 10, 10]}}},
    "fold_in_ratio": {"eval_args": {**SG_ARGS, "fold_in_ratio": 0.5}},
    "order": {"eval_args": {**SG_ARGS, "order": "TO"}},
    "RecBole's split": {"eval_args": RS_ARGS},
    "RecBole's split, leave one out": {"eval_args": {**RS_ARGS, "split": {"LS": "valid_and_test"}}},
    "filter by activity": {"user_inter_num_interval": "[8,inf)"},
    "filter by value": {"val_interval": {"timestamp": "[100,900]"}},
    "columns": {"load_col": {"inter": ["user_id", "item_id"]}},
    "duplicates": {"rm_dup_inter": "first"},
    "normalized": {"normalize_field": ["timestamp"]},
    "a row more": lambda lines: [*lines, "u1\ti0\t5"],
    "a row less": lambda lines: lines[:-1],
    "the same number of bytes": with_users_renamed,
    "the order of the rows": lambda lines: lines[::-1],
}


@pytest.mark.parametrize("saving", SAVING)
@pytest.mark.parametrize("path", PATHS)
def test_other_settings_are_never_mixed_up(tiny, path, saving, loaded_anew):
    model, first = settings_of(tiny, path, **SAVING[saving])
    before = expected(tiny, model, first)
    assert content(prepared(model, first)) == before
    original = Path(tiny["data_path"]) / "tiny" / "tiny.inter"
    text = original.read_bytes()
    for name, change in CHANGES.items():
        if model == "EASE" and "RecBole's split" in name:
            continue
        if callable(change):
            rewritten(tiny, change)
            other = first
        else:
            other = {**first, **change}
        assert content(prepared(model, other)) == expected(tiny, model, other), name
        original.write_bytes(text)
        assert content(prepared(model, first)) == before, name
    # By now everything has been saved: the first settings read what they wrote.
    loaded_anew.update(data=0, split=0)
    assert content(prepared(model, first)) == before
    wanted = {"data": 0 if "save_dataset" in SAVING[saving] else 1}
    wanted["split"] = 0 if "save_dataloaders" in SAVING[saving] else 1
    assert loaded_anew == wanted


@pytest.mark.parametrize("path", PATHS)
def test_a_run_on_saved_data_has_the_same_metrics(tiny, path):
    model, settings = settings_of(tiny, path)
    plain = run_recbole(model, "tiny", config_dict=dict(settings), saved=False)
    saving = {**settings, **SAVING["both"]}
    for _ in range(2):
        result = run_recbole(model, "tiny", config_dict=dict(saving), saved=False)
        assert result == plain
    assert len(list(Path("saved").glob("tiny-*.pth"))) == 2
    other = {**saving, "seed": 3}
    result = run_recbole(model, "tiny", config_dict=dict(other), saved=False)
    assert result == run_recbole(
        model, "tiny", config_dict={**settings, "seed": 3, "checkpoint_dir": "x"}, saved=False
    )
    assert result != plain


def test_a_split_made_elsewhere(tiny, loaded_anew):
    folder = Path(tiny["data_path"]) / "tiny"
    parts = parts_made_elsewhere()
    for name, rows in parts.items():
        lines = ["user_id:token\titem_id:token", *("\t".join(row) for row in rows)]
        (folder / f"tiny.{name}.inter").write_text("\n".join(lines) + "\n")
    files = {"benchmark_filename": list(parts), "load_col": {"inter": ["user_id", "item_id"]}}
    settings = {**tiny, **files, **SAVING["both"]}
    before = expected(tiny, "HVamp", settings)
    assert content(prepared("HVamp", settings)) == before
    loaded_anew.update(data=0, split=0)
    assert content(prepared("HVamp", settings)) == before
    assert loaded_anew["data"] == 0
    swapped = {**settings, "benchmark_filename": ["train", "tf", "tt", "vf", "vt"]}
    assert content(prepared("HVamp", swapped)) == expected(tiny, "HVamp", swapped) != before
    path = folder / "tiny.tt.inter"
    path.write_text(path.read_text().replace("t1\ti4", "t1\ti5"))
    assert content(prepared("HVamp", settings)) == expected(tiny, "HVamp", settings) != before


def test_one_saved_split_serves_all_models(tiny, loaded_anew):
    for model in ("HVamp", "EASE", "MultiVAE", "Pop"):
        prepared(model, {**tiny, "eval_args": SG_ARGS, **SAVING["both"]})
    assert loaded_anew == {"data": 1, "split": 1}


@pytest.mark.parametrize("path", PATHS)
def test_files_that_the_user_names(tiny, path, loaded_anew):
    model, settings = settings_of(tiny, path)
    before = content(prepared(model, {**settings, **SAVING["both"]}))
    data, split = (str(next(Path("saved").glob(f"tiny-{w}-*"))) for w in ("dataset", "split"))
    loaded_anew.update(data=0, split=0)
    names = {"dataset_save_path": data, "dataloaders_save_path": split, "checkpoint_dir": "other"}
    assert content(prepared(model, {**settings, **names})) == before
    assert loaded_anew == {"data": 0, "split": 0}
    assert not os.path.exists("other")


@pytest.mark.parametrize("fault", ["missing", "half", "empty", "nonsense", "other"])
def test_a_named_file_that_is_of_no_use(tiny, fault, caplog):
    caplog.set_level(logging.WARNING)
    model, settings = settings_of(tiny, "ours, SG")
    prepared(model, {**settings, **SAVING["both"]})
    for key, what in (("dataset_save_path", "dataset"), ("dataloaders_save_path", "split")):
        good = next(Path("saved").glob(f"tiny-{what}-*"))
        data = {
            "half": good.read_bytes()[:-200],
            "empty": b"",
            "nonsense": b"nonsense",
            "other": good.read_bytes(),
        }
        named = Path(f"{fault}.pth")
        if fault in data:
            named.write_bytes(data[fault])
        more = {"user_inter_num_interval": "[8,inf)"} if fault == "other" else {}
        asked = {**settings, **more, key: str(named)}
        found = content(prepared(model, asked))
        assert found == expected(tiny, model, {**settings, **more})
        said = [record.getMessage() for record in caplog.records]
        why = {"missing": "there is no such file", "other": "of other settings (user_inter_num"}
        assert any(f"{named} is not used: " in m and why.get(fault, "damaged") in m for m in said)


def flipped(path: Path) -> bytes:
    """The file with a bit of its largest tensor flipped, which PyTorch reads as another number."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        tensors = [archive.read(name) for name in archive.namelist() if "/data/" in name]
    stored = max(tensors, key=len)
    # The lowest byte of one of its whole numbers.
    content[content.index(stored) + len(stored) // 2 // 8 * 8] ^= 1
    return bytes(content)


def deflated(path: Path, more: int = 0) -> bytes:
    """The file with its members compressed, each with so many zero bytes more."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for name in archive.namelist():
            to.writestr(name, archive.read(name) + bytes(more))
    return packed.getvalue()


def state_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def dumped(state) -> bytes:
    packed = io.BytesIO()
    torch.save(state, packed)
    return packed.getvalue()


def with_odd_ids(value):
    """The content with ids, or places, of nobody."""
    if isinstance(value, dict):
        return {key: with_odd_ids(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_odd_ids(item) for item in value]
    of_ids = isinstance(value, torch.Tensor) and value.dtype == torch.int64
    return value + 10**6 if of_ids else value


ODD = {
    "a flipped bit": flipped,
    "compressed": deflated,
    "a bomb": lambda path: deflated(path, 2**22),
    "settings of another kind": lambda path: dumped({**state_of(path), "settings": "[]"}),
    "settings that are no text": lambda path: dumped({**state_of(path), "settings": {}}),
    "no content": lambda path: dumped({**state_of(path), "content": None}),
    "nothing in the content": lambda path: dumped({**state_of(path), "content": {}}),
    "content that is a text": lambda path: dumped({**state_of(path), "content": "x"}),
    "a list": lambda path: dumped([state_of(path)]),
    "ids of nobody": lambda path: dumped(with_odd_ids(state_of(path))),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ODD)
def test_a_file_that_is_not_as_it_was_written(tiny, path, fault, caplog):
    """It is said, nothing of it is used, and what is asked for is made anew."""
    caplog.set_level(logging.WARNING)
    model, settings = settings_of(tiny, path)
    right = content(prepared(model, {**settings, **SAVING["both"]}))
    for key, what in (("dataset_save_path", "dataset"), ("dataloaders_save_path", "split")):
        good = next(Path("saved").glob(f"tiny-{what}-*"))
        Path("odd.pth").write_bytes(ODD[fault](good))
        caplog.clear()
        assert content(prepared(model, {**settings, key: "odd.pth"})) == right
        said = [record.getMessage() for record in caplog.records]
        assert [text for text in said if text.startswith("odd.pth is not used: it is damaged")]
        # One that nobody names is written anew.
        good.write_bytes(Path("odd.pth").read_bytes())
        saving = {"dataset": "save_dataset", "split": "save_dataloaders"}[what]
        assert content(prepared(model, {**settings, saving: True})) == right
        caplog.clear()
        assert content(prepared(model, {**settings, saving: True})) == right
        assert not [r for r in caplog.records if "is not used" in r.getMessage()]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("the-code-ran",)


@pytest.mark.parametrize("path", PATHS)
def test_code_in_a_file_does_not_run(tiny, path):
    model, settings = settings_of(tiny, path)
    prepared(model, {**settings, **SAVING["both"]})
    ours = list(map(str, Path("saved").glob("tiny-*")))
    assert len(ours) == 2
    recboles = [
        f"saved/{name}" for name in ("tiny-Dataset.pth", f"tiny-for-{model}-dataloader.pth")
    ]
    for name in [*ours, *recboles, "evil.pth"]:
        with open(name, "wb") as file:
            pickle.dump(Payload(), file)
    named = {"dataset_save_path": "evil.pth", "dataloaders_save_path": "evil.pth"}
    for asked in ({}, *SAVING.values(), named):
        assert content(prepared(model, {**settings, **asked})) == expected(tiny, model, settings)
    torch.save(Payload(), "evil.pth")
    assert content(prepared(model, {**settings, **named})) == expected(tiny, model, settings)
    assert not os.path.exists("the-code-ran")
    # The payload does work.
    with open("saved/tiny-Dataset.pth", "rb") as file:
        pickle.load(file)
    assert os.path.exists("the-code-ran")


@pytest.mark.parametrize("what", ["dataset", "split"])
def test_a_file_is_written_whole_or_not_at_all(tiny, what, monkeypatch):
    model, settings = settings_of(tiny, "ours, SG")
    key = {"dataset": "save_dataset", "split": "save_dataloaders"}[what]

    def fail(state, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        prepared(model, {**settings, key: True})
    assert not any(Path("saved").iterdir())


LIMIT = 8_000


def limited():
    """No file of this process becomes larger: what a full disk does to a large one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


@pytest.mark.parametrize("key", ["save_dataset", "save_dataloaders"])
def test_a_full_disk_is_one_line(tiny, key):
    Path("tiny.yaml").write_text(json.dumps({**tiny, key: True}), encoding="utf-8")
    command = Path(sys.executable).with_name("recbole-evcf")
    words = [command, "run", "--model=Vamp", "--dataset=tiny", "--config_files=tiny.yaml"]
    done = subprocess.run(words, preexec_fn=limited, capture_output=True, text=True)
    found = re.fullmatch(
        r"recbole-evcf: error: (saved/tiny-\S+\.pth) cannot be written \(File too large\): free "
        r"space on the disk or set another checkpoint_dir\.\n",
        done.stderr,
    )
    assert found, done.stderr
    assert done.returncode == 2
    assert os.listdir("saved") == []
    # The limit is what stopped it.
    prepared("Vamp", {**tiny, key: True})
    assert os.path.getsize(found[1]) > LIMIT


def test_settings_with_keys_of_several_kinds(tiny, loaded_anew):
    columns = {**tiny["load_col"], 1: ["of no file"]}
    model, settings = settings_of(tiny, "ours, SG", load_col=columns)
    before = expected(tiny, model, settings)
    loaded_anew.update(data=0, split=0)
    for _ in range(2):
        assert content(prepared(model, {**settings, **SAVING["both"]})) == before
    assert loaded_anew == {"data": 1, "split": 1}
    intervals = {1: "[0,1]", "timestamp": "[9,inf)"}
    with pytest.raises(ValueError, match=r"Field \[1\] not defined"):
        prepared(model, {**tiny, "val_interval": intervals, **SAVING["both"]})


def test_every_column_comes_back(tmp_path, tiny):
    folder = Path(tiny["data_path"]) / "tiny"
    (folder / "tiny.item").write_text(
        "item_id:token\tname:token_seq\tprice:float\tview:float_seq\tbrand:token\n"
        'i1\ta "b" \u2028ü\t1.5\t0.5 0.25\tNA\ni2\t\t\t\tb2\n',
        encoding="utf-8",
    )
    (folder / "tiny.user").write_text("user_id:token\tage:float\nu1\t3\n", encoding="utf-8")
    columns = {"load_col": {"inter": "*", "item": "*", "user": "*"}, "normalize_field": ["age"]}
    settings = {**tiny, **columns, "eval_args": SG_ARGS, "filter_inter_by_user_or_item": False}
    config = Config("HVamp", "tiny", config_dict={**settings, "save_dataset": True})
    first, again = create_dataset(config), create_dataset(config)
    assert vars(first).keys() == vars(again).keys()
    for name, value in vars(first).items():
        other = vars(again)[name]
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other)
        elif name in ("field2id_token", "alias"):
            assert value.keys() == other.keys()
            assert all(np.array_equal(value[key], other[key]) for key in value)
            assert all(value[key].dtype == other[key].dtype for key in value)
        elif isinstance(value, np.ndarray):
            assert np.array_equal(value, other)
        else:
            assert value == other, name


def test_every_key_that_loading_reads_is_compared():
    """RecBole's list of keys lacks some: the next release may read one more."""
    import ast
    import inspect

    from recbole.data.dataset import dataset

    tree = ast.parse(inspect.getsource(dataset))
    read = {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "config"
        and isinstance(node.slice, ast.Constant)
    }
    assert len(read) > 20
    # Where files lie; the split has its own settings; local_rank says who downloads.
    assert read - set(LOADING_KEYS) == {"checkpoint_dir", "data_path", "eval_args", "local_rank"}


def test_a_model_file_has_no_other_file_unpickled(tiny, monkeypatch):
    for model in ("HVamp", "BPR"):
        asked = {"save_dataset": True, "save_dataloaders": True} if model == "HVamp" else {}
        settings = {**tiny, "eval_args": RS_ARGS, **asked}
        _, loaders, _, trainer = build(model, "tiny", settings)
        trainer.fit(loaders[0], loaders[1], saved=True)
        state = torch.load(trainer.saved_model_file, weights_only=True)
        for key in ("dataset_save_path", "dataloaders_save_path"):
            state["config"][key] = "evil.pth"
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
        assert sorted(os.listdir("saved")) == [
            "tiny-Dataset.pth",
            "tiny-for-BPR-dataloader.pth",
        ]

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
        settings = {**tiny, "eval_args": RS_ARGS, **SAVING[saving]}
        prepared("BPR", settings)
        other = {**settings, **change}
        assert content(prepared("BPR", other)) == expected(tiny, "BPR", other)

    def test_a_damaged_one_is_a_sentence(self, tiny):
        prepared("BPR", {**tiny, **SAVING["both"]})
        for name in os.listdir("saved"):
            path = Path("saved") / name
            path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"save_dataset or dataset_save_path .* is damaged"):
            prepared("BPR", {**tiny, "save_dataset": True})
        with pytest.raises(ValueError, match=r"save_dataloaders or dataloaders_save_path .* damag"):
            prepared("BPR", {**tiny, "save_dataloaders": True})


def test_a_name_that_is_a_pattern(tiny):
    folder = Path(tiny["data_path"])
    shutil.copytree(folder / "tiny", folder / "[t]*")
    (folder / "[t]*" / "tiny.inter").rename(folder / "[t]*" / "[t]*.inter")
    config = Config("HVamp", "[t]*", config_dict=dict(tiny))
    before = digest_of_files(config)
    (folder / "[t]*" / "[t]*.inter").write_text("other\n")
    assert digest_of_files(config) != before
