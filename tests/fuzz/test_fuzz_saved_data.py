"""Saved data sets and splits that are damaged: what is asked for is as if there were none."""

import logging
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset
from recbole.utils import init_seed

from fuzzing import ANY_BYTES, assert_sentence, cases, damaged, ends_well

SPLITS = {"by users": {"SG": [0.5, 0.2, 0.3]}, "RecBole's": {"RS": [0.6, 0.2, 0.2]}}
# What names the file, and what its name begins with where the user names none.
KEYS = {"dataset_save_path": "tiny-dataset-", "dataloaders_save_path": "tiny-split-"}


class Saved(NamedTuple):
    """Settings, what they give, and the files by the key that names them."""

    settings: dict
    expected: list
    files: dict[str, bytes]


def loaded(settings: dict) -> list:
    """Everything in a data set and its parts, as lists."""
    config = Config("Vamp", "tiny", config_dict=dict(settings))
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    found = [{name: dataset.inter_feat[name].tolist() for name in dataset.inter_feat}]
    found += [tokens.tolist() for tokens in dataset.field2id_token.values()]
    for part in dataset.build():
        found.append({name: part.inter_feat[name].tolist() for name in part.inter_feat.columns})
        for name in ("fold_in", "input_histories"):
            if hasattr(part, name):
                found.append(getattr(part, name).matrix().toarray().tolist())
    return found


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory) -> dict[str, Saved]:
    folder = tmp_path_factory.mktemp("kept")
    found = {}
    for kind, split in SPLITS.items():
        args = {"split": split, "order": "RO", "group_by": "user", "mode": "full"}
        settings = {**trained.settings, "eval_args": args, "checkpoint_dir": str(folder / kind)}
        expected = loaded({**settings, "save_dataset": True, "save_dataloaders": True})
        files = {
            key: next((folder / kind).glob(f"{start}*")).read_bytes() for key, start in KEYS.items()
        }
        found[kind] = Saved(settings, expected, files)
    return found


def drawn(saved, data) -> tuple[Saved, str]:
    """A saved case, and which of its files is to be damaged."""
    case = saved[data.draw(st.sampled_from(sorted(SPLITS)))]
    return case, data.draw(st.sampled_from(sorted(KEYS)))


def read(reader: str, case: Saved, key: str, content: bytes, caplog) -> None:
    """The result is the right one; where the file was not used, that is said in a sentence."""
    caplog.set_level(logging.WARNING)
    Path("odd.pth").write_bytes(content)
    caplog.clear()
    ending = ends_well(reader, lambda: loaded({**case.settings, key: "odd.pth"}), ["odd.pth"])
    assert ending.result == case.expected
    for record in caplog.records:
        assert_sentence(record.getMessage(), ["odd.pth is not used: it is damaged"])


@cases(80)
@given(data=st.data())
def test_damaged_bytes(saved, data, caplog):
    case, key = drawn(saved, data)
    content = data.draw(st.builds(lambda: damaged(data, case.files[key])) | ANY_BYTES)
    read("saved data, bytes damaged", case, key, content, caplog)


@cases(80)
@given(data=st.data())
def test_a_single_flipped_bit(saved, data, caplog):
    case, key = drawn(saved, data)
    content = bytearray(case.files[key])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    read("saved data, one bit flipped", case, key, bytes(content), caplog)


@cases(30)
@given(data=st.data())
def test_cut_off(saved, data, caplog):
    case, key = drawn(saved, data)
    length = data.draw(st.integers(0, len(case.files[key]) - 1))
    read("saved data, cut off", case, key, case.files[key][:length], caplog)
    assert caplog.records
