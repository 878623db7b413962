"""Data as they are in the world: each kind trains and is scored right, or is one sentence."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from build import build
from conftest import parts_made_elsewhere
from recbole_evcf import cli
from recbole_evcf.data.histories import Histories

HEADER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
SPLITS = {"RS": {"RS": [0.8, 0.1, 0.1]}, "SG": {"SG": [0.5, 0.25, 0.25]}}
LONG = "x" * 100_000
SIZES = {"mlp_hidden_size": [8], "latent_dimension": 4, "n_pseudo_inputs": 3}


def ordinary() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [
        (f"u{user}", f"i{item}", int(rng.integers(1, 6)), int(rng.integers(1000)))
        for user in range(40)
        for item in rng.choice(20, size=int(rng.integers(6, 14)), replace=False)
    ]


ROWS = ordinary()


def renamed(user=lambda name: name, item=lambda name: name) -> list[tuple]:
    return [(user(row[0]), item(row[1]), *row[2:]) for row in ROWS]


def with_column(place: int, value) -> list[tuple]:
    """Every seventh row's rating (2) or time (3) is something else."""
    return [
        (*row[:place], value, *row[place + 1 :]) if number % 7 == 0 else row
        for number, row in enumerate(ROWS)
    ]


def text(rows, header=HEADER, end="\n") -> str:
    return end.join("\t".join(map(str, row)) for row in [header, *rows]) + end


def quoted(rows) -> str:
    lines = text(rows).splitlines()
    cells = [line.split("\t") for line in lines[1:]]
    rows = ["\t".join([f'"{user}"', f'"{item}"', *rest]) for user, item, *rest in cells]
    return "\n".join([lines[0], *rows]) + "\n"


class Case:
    """A data set and what is in it.

    Args:
        content: of the ``.inter`` file.
        pairs: users and items that it holds, which must come back name by name.
        settings: beside the usual ones.
    """

    def __init__(self, content: str, pairs, **settings):
        self.content, self.pairs, self.settings = content, {row[:2] for row in pairs}, settings


WIDE = (*HEADER, *(f"c{number}:float" for number in range(28)), "d:token_seq", "e:token")
EVERYTHING = [("whole", f"i{item}", 3, item) for item in range(20)]
ONE_ITEM = [(f"s{user}", f"i{user % 20}", 3, user) for user in range(15)]
RARE = [(f"u{number}", f"rare{number}", 3, 2000) for number in range(40)]
LOUD = renamed(lambda u: f"\x1b[31m{u}", lambda i: f"\x1b]0;{i}\x07")
LONGEST = renamed(lambda u: u + LONG if u == "u3" else u, lambda i: i + LONG if i == "i4" else i)
INNER_QUOTES = renamed(lambda u: f"it's {u}", lambda i: f'9" {i}')
SPACES = renamed(lambda u: f" {u} ü", lambda i: f"a  b {i} ")
UNICODE = renamed(lambda u: f"ü\u2028{u}\x85", lambda i: f"\U0001f600é\u202e{i}\x1c")
MISSING = renamed(lambda u: "NA" if u == "u3" else u, lambda i: "" if i == "i4" else i)
THERE = [row for row in ROWS if row[0] != "u3" and row[1] != "i4"]
PADDED = renamed(lambda u: "[PAD]" if u == "u3" else u, lambda i: "[PAD]" if i == "i4" else i)
RATED = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
LIKED = {**RATED, "val_interval": {"rating": "[1,inf)"}}
ROW_28 = [(*row, *range(28), "a b", "e") for row in ROWS]

WORKING = {
    "ordinary": Case(text(ROWS), ROWS),
    "duplicates": Case(text([*ROWS, *ROWS[:100], *ROWS[:50]]), ROWS),
    "users with one item": Case(text([*ROWS, *ONE_ITEM]), [*ROWS, *ONE_ITEM]),
    "items of one user": Case(text([*ROWS, *RARE]), [*ROWS, *RARE]),
    "a user with all items": Case(text([*ROWS, *EVERYTHING]), [*ROWS, *EVERYTHING]),
    "spaces": Case(text(SPACES), SPACES),
    "quotes inside": Case(text(INNER_QUOTES), INNER_QUOTES),
    "quotes around": Case(quoted(ROWS), ROWS),
    "Unicode": Case(text(UNICODE), UNICODE),
    "100,000 characters": Case(text(LONGEST), LONGEST),
    "control characters": Case(text(LOUD), LOUD),
    "Windows line ends": Case(text(ROWS, end="\r\n"), ROWS),
    "Windows, ids last": Case(
        text([row[:2] for row in ROWS], HEADER[:2], "\r\n"),
        ROWS,
        load_col={"inter": ["user_id", "item_id"]},
    ),
    "blank lines at the end": Case(text(ROWS) + "\n\n", ROWS),
    "no newline at the end": Case(text(ROWS)[:-1], ROWS),
    "ratings of NaN": Case(text(with_column(2, "nan")), ROWS, **RATED),
    "no ratings": Case(text(with_column(2, "")), ROWS, **RATED),
    "ratings of NaN, filtered": Case(
        text(with_column(2, "nan")), [row for n, row in enumerate(ROWS) if n % 7], **LIKED
    ),
    "ratings of NaN only": Case(text([(*row[:2], "NaN", 1) for row in ROWS]), ROWS, **RATED),
    "infinite ratings": Case(text(with_column(2, "inf")), ROWS, **RATED),
    "30 columns not needed": Case(text(ROW_28, WIDE), ROWS),
    "30 columns, all loaded": Case(text(ROW_28, WIDE), ROWS, load_col=None),
    "no timestamps": Case(
        text([row[:2] for row in ROWS], HEADER[:2]),
        ROWS,
        load_col={"inter": ["user_id", "item_id"]},
    ),
    "in the order of time": Case(text(ROWS), ROWS, order="TO"),
    "some timestamps missing": Case(text(with_column(3, "")), ROWS, order="TO"),
    "ids missing": Case(text(MISSING), THERE),
    "ids named as RecBole's padding": Case(text(PADDED), PADDED),
}


def written(name: str, content: str) -> None:
    folder = Path("data") / name
    folder.mkdir(parents=True)
    (folder / f"{name}.inter").write_bytes(content.encode())


def settings_of(split: str, order: str = "RO", **more) -> dict:
    arguments = {"split": SPLITS[split], "order": order, "group_by": "user", "mode": "full"}
    return {
        "data_path": "data",
        "eval_args": arguments,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "epochs": 1,
        "metrics": ["NDCG", "Recall"],
        "topk": [5],
        "valid_metric": "NDCG@5",
        "show_progress": False,
        "state": "error",
        **SIZES,
        **more,
    }


def run(name: str, settings: dict, *more: str) -> int:
    words = [f"--{key}={value}" for key, value in settings.items()]
    return cli.main(["run", "--model=HVamp", f"--dataset={name}", *words, *more])


def pairs_of(dataset, matrix=None) -> set:
    """Users and items by name, of a part or of a matrix of histories."""
    rows, columns = (dataset.inter_feat[name].numpy() for name in ("user_id", "item_id"))
    if matrix is not None:
        rows, columns = matrix.nonzero()
        columns = columns + 1
    users, items = (dataset.field2id_token[name].tolist() for name in ("user_id", "item_id"))
    return {(users[row], items[column]) for row, column in zip(rows, columns)}


def naive_scores(trainer, part, seen: set, targets: set) -> dict[str, float]:
    """NDCG@5 and Recall@5, user by user and item by item."""
    dataset = part._dataset
    trainer.model.eval()
    users, items = (dataset.field2id_token[name].tolist() for name in ("user_id", "item_id"))
    found = {"ndcg@5": [], "recall@5": []}
    for user in sorted({user for user, _ in targets}):
        # The first is RecBole's padding.
        ids = torch.tensor([users.index(user, 1)])
        with torch.no_grad():
            scores = trainer.model.full_sort_predict({"user_id": ids}).flatten().tolist()
        order = sorted(range(1, len(items)), key=lambda item, s=scores: -s[item])
        left = [items[item] for item in order if (user, items[item]) not in seen]
        hits = [(user, item) in targets for item in left[:5]]
        n_targets = sum(1 for who, _ in targets if who == user)
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ideal = sum(1 / math.log2(place + 2) for place in range(min(5, n_targets)))
        found["ndcg@5"].append(gain / ideal)
        found["recall@5"].append(sum(hits) / n_targets)
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", WORKING)
def test_it_works_and_the_numbers_are_right(name, split, capsys):
    case = WORKING[name]
    written("odd", case.content)
    settings = settings_of(split, **case.settings)
    assert run("odd", settings, "--result_file=r.json") == 0
    output = capsys.readouterr()
    result = json.loads(Path("r.json").read_text())["test_result"]
    for metric, value in result.items():
        assert f"{metric} " in output.out
        assert f"{value:.4f}" in output.out

    _, loaders, _, trainer = build("HVamp", "odd", settings)
    trainer.fit(*loaders[:2], saved=True, show_progress=False)
    trainer.evaluate(loaders[2])
    train, valid, test = (pairs_of(loader._dataset) for loader in loaders)
    # Each pair once in the binary history that a user is scored from.
    matrix = Histories.from_dataset(loaders[0]._dataset).matrix()
    assert pairs_of(loaders[0]._dataset, matrix) == train
    assert matrix.sum() == len(train)
    if split == "RS":
        assert train | valid | test == case.pairs
        seen = (train | valid) - test
    else:
        shown = [pairs_of(part._dataset, part._dataset.fold_in.matrix()) for part in loaders[1:]]
        known = {item for _, item in train}
        held_out = valid.union(test, *shown)
        assert train == {pair for pair in case.pairs if pair[0] in {user for user, _ in train}}
        assert held_out == {
            pair
            for pair in case.pairs
            if pair[1] in known and pair[0] in {user for user, _ in held_out}
        }
        assert not (valid | test) & set.union(*shown)
        seen = shown[1]
    naive = naive_scores(trainer, loaders[2], seen, test)
    assert naive == pytest.approx(result, abs=1e-4)
    # What is printed does not steer the terminal.
    assert "\x1b]" not in output.out + output.err


NO_TIME = {"load_col": {"inter": ["user_id", "item_id"]}, "order": "TO"}
ONE_USER = [("u", f"i{item}", 3, item) for item in range(30)]
ONE_ITEM_EACH = [(f"u{user}", "i", 3, user) for user in range(30)]
REFUSED = {
    "a single user": (text(ONE_USER), "SG", {}, "1 training, 0 validation and 0 test users of 1"),
    "a single item": (text(ONE_ITEM_EACH), "SG", {}, "No validation user has the 5 interactions"),
    "one interaction": (text(ROWS[:1]), "SG", {}, "0 test users of 1"),
    "an empty file": ("", "both", {}, "line 1 is empty; it must name the columns"),
    "a header alone": (text([]), "both", {}, "holds no rows, only the header"),
    "blank lines": ("\n\n", "both", {}, "line 1 is empty"),
    "an open quote": (text(renamed(item=lambda i: f'"{i}')), "both", {}, "a quote"),
    "timestamps not there": (
        text([row[:2] for row in ROWS], HEADER[:2]),
        "both",
        NO_TIME,
        "order: TO needs the field 'timestamp', of which odd.inter holds no value",
    ),
    "timestamps not loaded": (text(ROWS), "both", NO_TIME, "or which load_col does not load"),
    "timestamps all missing": (
        text([(*row[:3], "") for row in ROWS]),
        "both",
        {"order": "TO"},
        "of which odd.inter holds no value",
    ),
    "timestamps that are words": (
        text(with_column(3, "soon")),
        "both",
        {},
        "holds 'soon', not a number",
    ),
    "ratings of NaN only, filtered": (
        text([(*row[:2], "NaN", 1) for row in ROWS]),
        "both",
        LIKED,
        "Some feat is empty, please check the filtering settings",
    ),
    "too many columns": (text([(*ROWS[0], 1), *ROWS]), "both", {}, "line 2 has 5 columns, the"),
    "no text": ("\udcff\udcfe" * 3, "both", {}, "cannot be read as utf-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_one_sentence(name, capsys):
    content, split, more, sentence = REFUSED[name]
    folder = Path("data/odd")
    folder.mkdir(parents=True)
    (folder / "odd.inter").write_bytes(content.encode("utf-8", "surrogateescape"))
    for each in SPLITS if split == "both" else [split]:
        assert run("odd", settings_of(each, **more)) == 2
        error = capsys.readouterr().err
        assert error.startswith("recbole-evcf: error: ")
        assert error.count("\n") == 1
        assert sentence in error
    assert not list(Path.cwd().rglob("*.pth"))


ALL_ONE = [(f"u{user}", f"i{user % 7}", 3, user) for user in range(30)]


@pytest.mark.parametrize(
    "rows", [ONE_ITEM_EACH, ALL_ONE, ROWS[:1]], ids=["one item", "one each", "one interaction"]
)
def test_nothing_is_left_to_evaluate_on(rows, capsys):
    """RecBole's split gives a user's only interaction to training."""
    written("odd", text(rows))
    assert run("odd", settings_of("RS")) == 0
    assert capsys.readouterr().out == (
        "Nothing was evaluated: the split leaves nothing to validate or test on.\n"
    )


def test_missing_times_are_told_of(caplog):
    caplog.set_level(logging.WARNING)
    written("odd", text(with_column(3, "")))
    build("HVamp", "odd", settings_of("SG", order="TO"))
    missing = len(ROWS[::7])
    said = (
        f"{missing} of {len(ROWS)} interactions have no timestamp; in the order TO they are given"
    )
    assert any(said in record.getMessage() for record in caplog.records)


def benchmark(part: str, more: tuple[str, str]) -> dict:
    parts = parts_made_elsewhere()
    folder = Path("data/odd")
    folder.mkdir(parents=True)
    for name, rows in parts.items():
        rows = [*rows, more] if name == part else rows
        (folder / f"odd.{name}.inter").write_text(text(rows, HEADER[:2]), encoding="utf-8")
    settings = settings_of("RS", load_col={"inter": ["user_id", "item_id"]})
    return {**settings, "benchmark_filename": list(parts)}


@pytest.mark.parametrize(
    ("part", "more", "sentence"),
    [
        ("train", ("NA", "i1"), "odd.train.inter, line 102: there is no user_id."),
        ("train", ("a1", ""), "odd.train.inter, line 102: there is no item_id."),
        ("vt", ("", "i5"), "odd.vt.inter, line 12: there is no user_id."),
        ("tf", ("t1", "null"), "odd.tf.inter, line 17: there is no item_id."),
        ("tt", ("t1", LONG), f"line 12: item_id '{'x' * 57}...' is not in the training file."),
        ("tt", ("t1", "\x1b[31m"), r"line 12: item_id '\x1b[31m' is not in the training file."),
    ],
)
def test_a_split_made_elsewhere_with_odd_ids(part, more, sentence, capsys):
    assert run("odd", benchmark(part, more)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert len(error) < 500


class TestRecommend:
    @pytest.fixture
    def trained(self, capsys):
        strange = {
            "i0": "=cmd|' /C calc'!A0",
            "i1": LONG,
            "i2": "\x1b[31mred",
            "i3": 'a,b;"c"',
            "i4": "<script>alert(1)</script>",
            "i5": "\u2028",
        }
        rows = renamed(item=lambda i: strange.get(i, i))
        all_items = sorted({row[1] for row in rows})
        rows += [("whole", item, 3, 1) for item in all_items]
        quoted = [(row[0], '"' + row[1].replace('"', '""') + '"', *row[2:]) for row in rows]
        written("odd", text(quoted))
        assert run("odd", settings_of("SG"), "--checkpoint_dir=saved") == 0
        capsys.readouterr()
        return str(next(Path("saved").glob("*.pth"))), all_items

    def test_every_id_comes_back_as_it_is(self, trained, capsys):
        path, items = trained
        arguments = ["recommend", f"--model_file={path}", "--include_seen", "--topk=20"]
        assert cli.main([*arguments, "--output=r.csv"]) == 0
        assert cli.main([*arguments, "--output=r.jsonl"]) == 0
        read = pd.read_csv("r.csv", keep_default_na=False)
        assert set(read["item"]) == set(items)
        lines = [json.loads(line) for line in Path("r.jsonl").read_text().split("\n")[:-1]]
        assert {item for line in lines for item in line["items"]} == set(items)
        assert "\x1b" not in capsys.readouterr().err

    def test_nothing_is_left_for_the_user_with_all_items(self, trained, capsys):
        path, _ = trained
        assert cli.main(["recommend", f"--model_file={path}", "--output=r.csv", "--topk=3"]) == 0
        assert "1 user had no item left to recommend" in capsys.readouterr().err
        assert "whole" not in set(pd.read_csv("r.csv")["user"])

    def test_unknown_items_are_named_briefly(self, trained, capsys):
        path, _ = trained
        lines = ["ann,i7", f"ann,{LONG}y", "ann,\x1b[31mnone"]
        Path("h.csv").write_text("user,item\n" + "\n".join(lines) + "\n")
        Path("allow.txt").write_text(f"i8\n{LONG}z\n\x1b[31mno\n")
        arguments = ["recommend", f"--model_file={path}", "--histories=h.csv", "--topk=3"]
        assert cli.main([*arguments, "--allow_items=allow.txt", "--output=r.csv"]) == 0
        error = capsys.readouterr().err
        assert "\x1b" not in error
        assert r"'\x1b[31mnone'" in error
        assert f"'{'x' * 57}...'" in error
        assert len(error) < 1000


def test_a_comparison(compared):
    written("tiny", text([*LONGEST, *ROWS[:40], *ONE_ITEM]))
    outcome = compared("Pop,HVamp", settings_of("SG", data_path="data"), seeds=(1, 2))
    assert not outcome.failures
    users = pd.concat(pd.read_csv(path) for path in Path("out/runs").glob("*.users.csv"))
    names = {row[0] for row in [*LONGEST, *ROWS[:40], *ONE_ITEM]}
    assert set(users["user_id"]) <= names
