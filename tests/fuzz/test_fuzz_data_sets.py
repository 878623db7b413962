"""Data sets as RecBole reads them: atomic files, and the five files of a split made elsewhere."""

from pathlib import Path

import numpy as np
from hypothesis import example, given
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
SETTINGS = {"data_path": "data", "load_col": None, "state": "error", "mlp_hidden_size": [4]}
SMALL = {"latent_dimension": 4, "n_pseudo_inputs": 3, "epochs": 1, "show_progress": False}

tokens = st.sampled_from(["a", "b", "i1", "i2", "7", "07", "7.0", "NA", "é", "a b", "x" * 99])
tokens = tokens | st.text(alphabet="ab1 .-_'é\u2028\x85", min_size=1, max_size=4)
times = st.sampled_from(["0", "1.5", "-3", "1e9", "nan", "inf", "", "NA", "x", "1_0", "0x1"])


def write_set(files: dict[str, bytes]) -> None:
    folder = Path("data/fuzzed")
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / f"fuzzed.{name}").write_bytes(content)


def read_set(reader: str, files: dict[str, bytes], **settings):
    write_set(files)

    def load():
        config = Config("Vamp", "fuzzed", config_dict={**SETTINGS, **SMALL, **settings})
        dataset = create_dataset(config)
        rows = len(dataset.inter_feat)
        return rows, dataset, data_preparation(config, dataset)

    # RecBole names no file when its filters leave nothing.
    return ends_well(reader, load, ["fuzzed", "Some feat is empty", "eval_args", "leaves"])


def assert_sound(dataset, loaders) -> None:
    """Ids stand for tokens, each once, and every loader has users of the data set."""
    for field, number in (("user_id", dataset.user_num), ("item_id", dataset.item_num)):
        names = [str(token) for token in dataset.field2id_token[field]]
        assert len(set(names)) == len(names) == number
        ids = np.asarray(dataset.inter_feat[field])
        assert ids.min() >= 1
        assert ids.max() < number
    assert len(loaders) == 3


@cases(120)
@given(data=st.data())
def test_damaged_atomic_files(data):
    name = data.draw(st.sampled_from(["inter", "item"]))
    files = {"inter": INTER, "item": ITEM}
    ending = read_set("atomic files", {**files, name: damaged(data, files[name])})
    if ending.refusal is None:
        _, dataset, loaders = ending.result
        assert_sound(dataset, loaders)


@cases(40)
@given(content=ANY_BYTES)
@example(b"user_id:token\titem_id:token\n" + b"\t" * 1000)
def test_any_bytes_in_an_atomic_file(content):
    read_set("atomic files", {"inter": content})


@cases(100)
@given(rows=st.lists(st.tuples(tokens, tokens, times), min_size=1, max_size=8))
def test_atomic_files_of_other_rows(rows):
    text = "\n".join([HEADER, *map("\t".join, rows), ""])
    ending = read_set("atomic files", {"inter": text.encode()})
    if ending.refusal is None:
        n_rows, dataset, loaders = ending.result
        assert_sound(dataset, loaders)
        assert n_rows <= len(rows)
        found = {str(token) for token in dataset.field2id_token["user_id"][1:]}
        assert found <= {user for user, _, _ in rows}


@cases(120)
@given(data=st.data())
def test_damaged_files_of_a_split(data):
    name = data.draw(st.sampled_from(sorted(PARTS)))
    parts = {**PARTS, name: damaged(data, PARTS[name])}
    read_split(parts)


split_rows = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("xyzwé")), max_size=4)


@cases(100)
@given(name=st.sampled_from(sorted(PARTS)), rows=split_rows)
def test_files_of_a_split_of_other_rows(name, rows):
    text = "\n".join(["user_id:token\titem_id:token", *map("\t".join, rows), ""])
    read_split({**PARTS, name: text.encode()})


def read_split(parts: dict[str, bytes]) -> None:
    ending = read_set(
        "files of a split",
        {f"{name}.inter": content for name, content in parts.items()},
        benchmark_filename=list(PARTS),
    )
    if ending.refusal is None:
        _, dataset, (train, valid, test) = ending.result
        assert_sound(dataset, (train, valid, test))
        trained = set(np.asarray(train._dataset.inter_feat["user_id"]).tolist())
        validated, tested = (set(loader.uid_list.tolist()) for loader in (valid, test))
        assert not trained & validated
        assert not trained & tested
        assert not validated & tested


@cases(5)
@given(data=st.data())
def test_runs_of_damaged_data_sets(data):
    name = data.draw(st.sampled_from(["inter", "item"]))
    files = {"inter": INTER, "item": ITEM}
    write_set({**files, name: damaged(data, files[name])})
    sizes = [
        f"--{key}={value}" for key, value in {**SETTINGS, **SMALL}.items() if value is not None
    ]
    command_ends_well(
        "runs of damaged data sets",
        ["run", "--model=Vamp", "--dataset=fuzzed", *sizes],
        ["fuzzed"],
    )
