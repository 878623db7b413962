"""Data sets as RecBole reads them: atomic files, and the five files of a split made elsewhere."""

import shutil
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

from fuzzing import ANY_BYTES, cases, command_ends_well, damaged, ends_well, tiny_rows

HEADER = "user_id:token\titem_id:token\ttime:float"
INTER = "\n".join([HEADER, *("\t".join(map(str, row)) for row in tiny_rows()[:40]), ""]).encode()
ITEM = b"item_id:token\ttitle:token_seq\tyear:float\ni1\tToy Story\t1995\ni5\t\t\ni9\tHeat\t1.5e3\n"
PARTS = {
    "train": b"user_id:token\titem_id:token\na\tx\na\ty\nb\tx\nb\tz\nc\ty\nc\tz\n",
    "valid_fold_in": b"user_id:token\titem_id:token\nd\tx\nd\ty\n",
    "valid_target": b"user_id:token\titem_id:token\nd\tz\n",
    "test_fold_in": b"user_id:token\titem_id:token\ne\tx\nf\tz\n",
    "test_target": b"user_id:token\titem_id:token\ne\ty\nf\tx\n",
}
FILES = {"inter": INTER, "item": ITEM}
SETTINGS = {"data_path": "data", "load_col": None, "state": "error", "show_progress": False}
SETTINGS |= {"mlp_hidden_size": [4], "latent_dimension": 4, "n_pseudo_inputs": 3, "epochs": 1}

tokens = st.sampled_from(["a", "b", "i1", "i2", "7", "07", "7.0", "NA", "é", "a b", "x" * 99])
tokens = tokens | st.text(alphabet="ab1 .-_'é\u2028\x85", min_size=1, max_size=4)
times = st.sampled_from(["0", "1.5", "-3", "1e9", "nan", "inf", "", "NA", "x", "1_0", "0x1"])


def write_set(files: dict[str, bytes]) -> None:
    shutil.rmtree("data", ignore_errors=True)
    Path("data/fuzzed").mkdir(parents=True)
    for name, content in files.items():
        Path(f"data/fuzzed/fuzzed.{name}").write_bytes(content)


def read_set(reader: str, files: dict[str, bytes], **settings):
    """The number of rows, the data set and the loaders; None if they are refused."""
    write_set(files)

    def load():
        config = Config("Vamp", "fuzzed", config_dict={**SETTINGS, **settings})
        dataset = create_dataset(config)
        rows = len(dataset.inter_feat)
        return rows, dataset, data_preparation(config, dataset)

    # RecBole names no file when its filters leave nothing.
    names = ["fuzzed", "Some feat is empty", "eval_args", "leaves"]
    found = ends_well(reader, load, names).result
    if found is not None:
        # Ids stand for tokens, each once, and there is a loader for each use.
        _, dataset, loaders = found
        for field, number in (("user_id", dataset.user_num), ("item_id", dataset.item_num)):
            names = [str(token) for token in dataset.field2id_token[field]]
            assert len(set(names)) == len(names) == number
            ids = np.asarray(dataset.inter_feat[field])
            assert ids.min() >= 1
            assert ids.max() < number
        assert len(loaders) == 3
    return found


@cases(160)
@given(data=st.data(), name=st.sampled_from(["inter", "item"]))
def test_damaged_atomic_files(data, name):
    tabs = st.just(b"user_id:token\titem_id:token\n" + b"\t" * 1000)
    content = data.draw(st.builds(lambda: damaged(data, FILES[name])) | ANY_BYTES | tabs)
    read_set("atomic files", {**FILES, name: content})


@cases(100)
@given(rows=st.lists(st.tuples(tokens, tokens, times), min_size=1, max_size=8))
def test_atomic_files_of_other_rows(rows):
    text = "\n".join([HEADER, *map("\t".join, rows), ""])
    found = read_set("atomic files", {"inter": text.encode()})
    if found is not None:
        n_rows, dataset, _ = found
        assert n_rows <= len(rows)
        users = {str(token) for token in dataset.field2id_token["user_id"][1:]}
        assert users <= {user for user, _, _ in rows}


split_rows = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("xyzwé")), max_size=4)


@cases(220)
@given(data=st.data(), name=st.sampled_from(sorted(PARTS)), rows=st.none() | split_rows)
def test_files_of_a_split(data, name, rows):
    """Damaged ones, and ones of other rows."""
    others = "\n".join(["user_id:token\titem_id:token", *map("\t".join, rows or ()), ""]).encode()
    parts = {**PARTS, name: damaged(data, PARTS[name]) if rows is None else others}
    files = {f"{part}.inter": content for part, content in parts.items()}
    found = read_set("files of a split", files, benchmark_filename=list(PARTS))
    if found is not None:
        train, *held_out = found[-1]
        trained = set(np.asarray(train._dataset.inter_feat["user_id"]).tolist())
        validated, tested = (set(loader.uid_list.tolist()) for loader in held_out)
        assert not trained & validated
        assert not trained & tested
        assert not validated & tested


@cases(5)
@given(data=st.data(), name=st.sampled_from(["inter", "item"]))
def test_runs_of_damaged_data_sets(data, name):
    write_set({**FILES, name: damaged(data, FILES[name])})
    words = [f"--{key}={value}" for key, value in SETTINGS.items() if value is not None]
    run = ["run", "--model=Vamp", "--dataset=fuzzed", *words]
    command_ends_well("runs of damaged data sets", run, ["fuzzed"])
