"""What RecBole would pass over in the settings of loading and splitting is one sentence."""

import logging
import os
import re
from pathlib import Path

import pytest
import recbole
from recbole.config import Config
from recbole.data import create_dataset

from build import build
from conftest import PAIRS, config_files, write_inter

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\tplace:token"
TS = {"split": {"TS": [0.8, 0.1, 0.1]}, "group_by": "user", "mode": "full"}
INTERVAL = 'must be an interval such as "[5,inf)", not '
COLUMNS = "of lists of columns, such as {'inter': ['user_id', 'item_id']}, not "
FILES = "benchmark_filename must be a list of three files (training, validation, test), or of five"
SHARES = "must be three numbers, for training above 0 and for validation and test 0 or more, not "
NO_EFFECT = "has no effect beside benchmark_filename, whose files RecBole takes as they are"

USERS, ITEMS = "user_inter_num_interval", "item_inter_num_interval"
LIKED = {"val_interval": {"rating": "[4,inf)"}}
BAD_SHARES = [[8, 2], [0, 1, 1], [0.8, -0.1, 0.3], ["a", 1, 1], "8", [True, 1, 1]]
FILTERS = {"rm_dup_inter": "first", **LIKED, USERS: "[5,inf)", ITEMS: "[5,inf)"}

# Refused before anything is read.
WRONG = [
    *(
        ({key: value}, f"{key} {INTERVAL}{value!r}")
        for key in (USERS, ITEMS)
        for value in (100, "[5,inf);x", "[9,5)", "[nan,5)", "", [5, "inf"], ">=4")
    ),
    ({"val_interval": "[4,inf)"}, "val_interval must be a mapping such as {'rating': '[4,inf)'}"),
    *(
        ({"load_col": columns}, f"load_col must be a mapping with inter {COLUMNS}")
        for columns in (["user_id"], {"inter": "user_id"}, {"inter": None}, {"item": ["item_id"]})
    ),
    ({"unload_col": {"inter": "rating"}}, f"unload_col must be a mapping {COLUMNS}"),
    *(({"benchmark_filename": names}, FILES) for names in ("abc", ["a", "b"], list("abcd"))),
    *(
        ({"benchmark_filename": list("abc"), key: value}, f"{key} {NO_EFFECT}")
        for key, value in FILTERS.items()
    ),
    ({"threshold": {"rating": 4}}, "threshold has no effect on {model}, which takes each"),
    *(
        ({"eval_args": {"split": {kind: shares}, "order": "TO", "group_by": "user"}}, SHARES)
        for kind in ("RS", "TS")
        for shares in BAD_SHARES
    ),
    ({"eval_args": {**TS, "order": "RO"}}, "split: TS splits by time and needs order: TO, not RO"),
]


@pytest.fixture
def rated(tmp_path) -> dict:
    """Settings that read a data set of ratings and places."""
    rows = [
        (f"u{user}", f"i{(user + k) % 15}", 1 + (user + k) % 5, 1000 * user + k, "ab"[k % 2])
        for user in range(30)
        for k in range(10)
    ]
    write_inter(tmp_path / "data", "rated", rows, HEADER)
    columns = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp", "place"]}}
    settings = {"data_path": str(tmp_path / "data"), "epochs": 1}
    return {**settings, **columns, "state": "error", "show_progress": False}


@pytest.mark.parametrize("model", ["HVamp", "BPR"])
@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_a_wrong_setting_is_refused_before_loading(rated, model, wrong, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence.replace("{model}", model))):
        Config(model, "rated", config_dict={**rated, **wrong})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--val_interval={'rating': 4}"], "val_interval: rating " + INTERVAL + "4"),
        (["--val_interval={'rating': [1, 2, 3]}"], "val_interval: rating " + INTERVAL),
        (["--unload_col={'inter': ['place']}"], "can not be set the same time"),
        (["--val_interval={'place': '[1,2]'}"], "place must be a list of the tokens to keep"),
        (["--load_col={'inter': ['user_id', 'item_id', 'plaice']}"], "names 'plaice', and "),
        (["--load_col=None", "--unload_col={'inter': ['plaice']}"], "names 'plaice', and "),
        (["--load_col={'inter': ['user_id']}"], "load_col leaves out item_id, which is needed "),
        (["--load_col={'inter': '*', 'item': ['item_id', 'class']}"], "item does not exist"),
    ],
)
def test_a_wrong_setting_on_the_command_line(rated, words, sentence, refused):
    error = refused("run", "--model=EASE", "--dataset=rated", config_files(rated), *words)
    assert sentence in error
    assert "could not be read" not in error


@pytest.mark.parametrize(
    ("good", "kept"),
    [
        ({"val_interval": {"rating": "[4,inf)"}}, 120),
        ({"val_interval": {"rating": "[4,inf]"}}, 120),
        ({"val_interval": {"rating": "[1,2); (4, 5]"}}, 120),
        ({"val_interval": {"rating": [4, 5]}}, 120),
        ({"val_interval": {"place": ["a"]}}, 150),
        ({"user_inter_num_interval": "[5,inf)"}, 300),
        ({"load_col": None}, 300),
        ({"load_col": {"inter": "*"}}, 300),
        ({"load_col": None, "unload_col": {"inter": ["place"]}}, 300),
        ({"eval_args": {**TS, "order": "TO"}}, 300),
    ],
)
def test_a_right_setting_is_applied(rated, good, kept):
    assert len(create_dataset(Config("BPR", "rated", config_dict={**rated, **good}))) == kept


def test_threshold_is_allowed_where_labels_are_read(rated):
    labelled = {"eval_args": {"mode": "labeled"}, "metrics": ["AUC"], "valid_metric": "AUC"}
    undrawn = {"train_neg_sample_args": None}
    for model, more in (("BPR", labelled), ("NeuMF", undrawn), ("FM", undrawn)):
        build(model, "rated", {**rated, "threshold": {"rating": 4}, **more})


@pytest.mark.parametrize("model", ["HVamp", "BPR"])
@pytest.mark.parametrize("suffix", ["item", "user"])
def test_files_that_are_not_asked_for_are_not_opened(rated, model, suffix):
    Path(rated["data_path"], "rated", f"rated.{suffix}").write_text("no header", encoding="utf-8")
    assert len(create_dataset(Config(model, "rated", config_dict=rated))) == 300
    asked = {**rated["load_col"], suffix: "*"}
    with pytest.raises(ValueError, match=f"rated.{suffix}"):
        create_dataset(Config(model, "rated", config_dict={**rated, "load_col": asked}))


def test_three_benchmark_files_are_read(tiny, tmp_path):
    names = ["train", "valid", "test"]
    for name in names:
        write_inter(tmp_path / "data", "made", [("u", "i")], PAIRS, f"{name}.inter")
    settings = {**tiny, "load_col": {"inter": ["user_id", "item_id"]}, "benchmark_filename": names}
    assert create_dataset(Config("EASE", "made", config_dict=settings)).file_size_list == [1] * 3


# ml-100k


@pytest.mark.parametrize("given", [{"data_path": "data"}, {}])
def test_own_files_named_ml_100k_are_read(tmp_path, given, caplog):
    folder = tmp_path / given.get("data_path", "dataset")
    write_inter(folder, "ml-100k", [(f"mine{n}", f"i{n % 9}", 1) for n in range(80)])
    columns = {"load_col": {"inter": ["user_id", "item_id"]}}
    with caplog.at_level(logging.INFO):
        dataset = create_dataset(Config("BPR", "ml-100k", config_dict={**given, **columns}))
    assert dataset.inter_num == 80
    assert dataset.id2token("user_id", 1) == "mine0"
    assert f"ml-100k is read from {folder / 'ml-100k'}" in caplog.text


@pytest.mark.parametrize("empty", [True, False])
def test_without_own_files_ml_100k_is_recboles(tmp_path, empty, caplog):
    if empty:
        (tmp_path / "data" / "ml-100k").mkdir(parents=True)
    config = Config("BPR", "ml-100k", config_dict={"data_path": "data"})
    packaged = os.path.join(os.path.dirname(recbole.__file__), "dataset_example", "ml-100k")
    assert os.path.samefile(config["data_path"], packaged)
    with caplog.at_level(logging.INFO):
        assert create_dataset(config).inter_num == 100_000
    assert f"ml-100k is read from {packaged}" in caplog.text
