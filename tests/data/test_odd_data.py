"""Data as they are in the world: each kind trains and is scored right, or is one sentence."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from build import build, naive_result, pairs_of
from recbole_evcf import cli
from recbole_evcf.data.histories import Histories
from recbole_evcf.quick_start import load_data_and_model

HEADER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
SPLITS = {"RS": {"RS": [0.8, 0.1, 0.1]}, "SG": {"SG": [0.5, 0.25, 0.25]}}
LONG = "x" * 100_000
rng = np.random.default_rng(0)
ROWS = [
    (f"u{user}", f"i{item}", int(rng.integers(1, 6)), int(rng.integers(1000)))
    for user in range(40)
    for item in rng.choice(20, size=int(rng.integers(6, 14)), replace=False)
]


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


def case(content, rows=ROWS, **settings):
    """The content of an ``.inter`` file, the pairs that must come back, and settings to add."""
    content = content if isinstance(content, str) else text(content)
    return content, {row[:2] for row in rows}, settings


def same(rows):
    return case(rows, rows)


IDS = [row[:2] for row in ROWS]
WIDE = (*HEADER, *(f"c{number}:float" for number in range(28)), "d:token_seq", "e:token")
ROW_28 = text([(*row, *range(28), "a b", "e") for row in ROWS], WIDE)
EVERYTHING = [("whole", f"i{item}", 3, item) for item in range(20)]
ONE_ITEM = [(f"s{user}", f"i{user % 20}", 3, user) for user in range(15)]
RARE = [(f"u{number}", f"rare{number}", 3, 2000) for number in range(40)]
LONGEST = renamed(lambda u: u + LONG if u == "u3" else u, lambda i: i + LONG if i == "i4" else i)
MISSING = renamed(lambda u: "NA" if u == "u3" else u, lambda i: "" if i == "i4" else i)
THERE = [row for row in ROWS if row[0] != "u3" and row[1] != "i4"]
NO_RATING = [(*row[:2], "NaN", 1) for row in ROWS]
RATED = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
LIKED = {**RATED, "val_interval": {"rating": "[1,inf)"}}
IDS_ONLY = {"load_col": {"inter": ["user_id", "item_id"]}}

WORKING = {
    "ordinary": same(ROWS),
    "duplicates": same([*ROWS, *ROWS[:100], *ROWS[:50]]),
    "users with one item": same([*ROWS, *ONE_ITEM]),
    "items of one user": same([*ROWS, *RARE]),
    "a user with all items": same([*ROWS, *EVERYTHING]),
    "spaces": same(renamed(lambda u: f" {u} ü", lambda i: f"a  b {i} ")),
    "quotes inside": same(renamed(lambda u: f"it's {u}", lambda i: f'9" {i}')),
    "quotes around": case(renamed(lambda u: f'"{u}"', lambda i: f'"{i}"')),
    "Unicode": same(renamed(lambda u: f"ü\u2028{u}\x85", lambda i: f"\U0001f600é\u202e{i}\x1c")),
    "100,000 characters": same(LONGEST),
    "control characters": same(renamed(lambda u: f"\x1b[31m{u}", lambda i: f"\x1b]0;{i}\x07")),
    "Windows line ends": case(text(ROWS, end="\r\n")),
    "Windows, ids last": case(text(IDS, HEADER[:2], "\r\n"), **IDS_ONLY),
    "no ratings": case(with_column(2, ""), **RATED),
    "ratings of NaN, filtered": case(
        with_column(2, "nan"), [row for n, row in enumerate(ROWS) if n % 7], **LIKED
    ),
    "30 columns not needed": case(ROW_28),
    "30 columns, all loaded": case(ROW_28, load_col=None),
    "no timestamps": case(text(IDS, HEADER[:2]), **IDS_ONLY),
    "in the order of time": case(ROWS, order="TO"),
    "some timestamps missing": case(with_column(3, ""), order="TO"),
    "ids missing": case(MISSING, THERE),
    "ids named as RecBole's padding": same(
        renamed(lambda u: "[PAD]" if u == "u3" else u, lambda i: "[PAD]" if i == "i4" else i)
    ),
}


def written(content: str, name: str = "odd", part: str = "inter") -> None:
    folder = Path("data") / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.{part}").write_bytes(content.encode("utf-8", "surrogateescape"))


def settings_of(split: str, order: str = "RO", **more) -> dict:
    arguments = {"split": SPLITS[split], "order": order, "group_by": "user", "mode": "full"}
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    metrics = {"metrics": ["NDCG", "Recall"], "topk": [5], "valid_metric": "NDCG@5"}
    sizes = {"mlp_hidden_size": [8], "latent_dimension": 4, "n_pseudo_inputs": 3, "epochs": 1}
    rest = {"data_path": "data", "show_progress": False, "state": "error"}
    return {"eval_args": arguments, **columns, **metrics, **sizes, **rest, **more}


def run(settings: dict, *more: str) -> list[str]:
    """The words of a run."""
    words = [f"--{key}={value}" for key, value in settings.items()]
    return ["run", "--model=HVamp", "--dataset=odd", *words, *more]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", WORKING)
def test_it_works_and_the_numbers_are_right(name, split, capsys):
    content, pairs, more = WORKING[name]
    written(content)
    assert cli.main(run(settings_of(split, **more), "--result_file=r.json")) == 0
    output = capsys.readouterr()
    result = json.loads(Path("r.json").read_text())["test_result"]
    for metric, value in result.items():
        assert f"{metric} " in output.out
        assert f"{value:.4f}" in output.out
    # What is printed does not steer the terminal.
    assert "\x1b]" not in output.out + output.err

    _, network, _, *loaders = load_data_and_model(str(next(Path("saved").glob("*.pth"))))
    parts = [loader._dataset for loader in loaders]
    train, valid, test = (set(pairs_of(part)) for part in parts)
    # Each pair once in the binary history that a user is scored from.
    matrix = Histories.from_dataset(parts[0])
    assert set(pairs_of(parts[0], matrix)) == train
    assert matrix.matrix().sum() == len(train)
    if split == "RS":
        assert train | valid | test == pairs
        seen = (train | valid) - test
    else:
        shown = [set(pairs_of(part, part.fold_in)) for part in parts[1:]]
        known = {item for _, item in train}
        held_out = valid.union(test, *shown)
        assert train == {pair for pair in pairs if pair[0] in dict(train)}
        assert held_out == {p for p in pairs if p[1] in known and p[0] in dict(held_out)}
        assert not (valid | test) & set.union(*shown)
        seen = shown[1]
    naive = naive_result(network, parts[2], seen, test)
    assert {name: naive[name] for name in result} == pytest.approx(result, abs=1e-4)


ONE_USER = [("u", f"i{item}", 3, item) for item in range(30)]
ONE_ITEM_EACH = [(f"u{user}", "i", 3, user) for user in range(30)]
NO_VALUE = "order: TO needs the field 'timestamp', of which odd.inter holds no value, or which load"
REFUSED = {
    "a single user": (ONE_USER, {}, "1 training, 0 validation and 0 test users of 1"),
    "a single item": (ONE_ITEM_EACH, {}, "No validation user has the 5 interactions"),
    "one interaction": (ROWS[:1], {}, "0 test users of 1"),
    "an empty file": ("", {}, "line 1 is empty; it must name the columns"),
    "a header alone": ([], {}, "holds no rows, only the header"),
    "an open quote": (renamed(item=lambda i: f'"{i}'), {}, "a quote"),
    "timestamps not there": (text(IDS, HEADER[:2]), {**IDS_ONLY, "order": "TO"}, NO_VALUE),
    "timestamps not loaded": (ROWS, {**IDS_ONLY, "order": "TO"}, NO_VALUE),
    "timestamps all missing": ([(*row[:3], "") for row in ROWS], {"order": "TO"}, NO_VALUE),
    "timestamps that are words": (with_column(3, "soon"), {}, "holds 'soon', not a number"),
    "ratings of NaN only, filtered": (NO_RATING, LIKED, "Some feat is empty, please check the fil"),
    "too many columns": ([(*ROWS[0], 1), *ROWS], {}, "line 2 has 5 columns, the"),
    "no text": ("\udcff\udcfe" * 3, {}, "cannot be read as utf-8"),
}


EACH_IN_TRAINING = ("a single item", "one interaction")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_one_sentence(name, refused):
    content, more, sentence = REFUSED[name]
    written(content if isinstance(content, str) else text(content))
    # RecBole's split gives a user's only interaction to training.
    for split in ["SG"] if name in ("a single user", *EACH_IN_TRAINING) else SPLITS:
        error = refused(*run(settings_of(split, **more)))
        assert sentence in error
        assert len(error) < 500
    assert not list(Path.cwd().rglob("*.pth"))


@pytest.mark.parametrize("name", EACH_IN_TRAINING)
def test_nothing_is_left_to_evaluate_on(name, capsys):
    written(text(REFUSED[name][0]))
    assert cli.main(run(settings_of("RS"))) == 0
    said = "Nothing was evaluated: the split leaves nothing to validate or test on.\n"
    assert capsys.readouterr().out == said


def test_recboles_own_models_run_without_times_as_without_the_plugin():
    written(text([(*row[:3], "") for row in ROWS]))
    build("BPR", "odd", settings_of("RS", order="TO"))


def test_missing_times_are_logged(caplog):
    caplog.set_level(logging.WARNING)
    written(text(with_column(3, "")))
    build("HVamp", "odd", settings_of("SG", order="TO"))
    said = f"{len(ROWS[::7])} of {len(ROWS)} interactions have no timestamp; in the order TO they"
    assert said in caplog.text


class TestRecommend:
    @pytest.fixture
    def trained(self, capsys):
        strange = {"i0": "=cmd|' /C calc'!A0", "i1": LONG, "i2": "\x1b[31mred", "i3": 'a,b;"c"'}
        strange |= {"i4": "<script>alert(1)</script>", "i5": "\u2028"}
        rows = renamed(item=lambda i: strange.get(i, i))
        all_items = sorted({row[1] for row in rows})
        rows += [("whole", item, 3, 1) for item in all_items]
        quoted = [(row[0], '"' + row[1].replace('"', '""') + '"', *row[2:]) for row in rows]
        written(text(quoted))
        assert cli.main(run(settings_of("SG"), "--checkpoint_dir=saved")) == 0
        capsys.readouterr()

        def recommend(*words) -> str:
            path = next(Path("saved").glob("*.pth"))
            assert cli.main(["recommend", f"--model_file={path}", *words]) == 0
            error = capsys.readouterr().err
            assert "\x1b" not in error
            return error

        return recommend, all_items

    def test_every_id_comes_back_as_it_is(self, trained):
        recommend, items = trained
        for output in ("r.csv", "r.jsonl"):
            recommend("--include_seen", "--topk=20", f"--output={output}")
        assert set(pd.read_csv("r.csv", keep_default_na=False)["item"]) == set(items)
        lines = [json.loads(line) for line in Path("r.jsonl").read_text().split("\n")[:-1]]
        assert {item for line in lines for item in line["items"]} == set(items)
        assert "1 user had no item left" in recommend("--topk=3", "--output=left.csv")
        assert "whole" not in set(pd.read_csv("left.csv")["user"])

    def test_unknown_items_are_named_briefly(self, trained):
        lines = ["ann,i7", f"ann,{LONG}y", "ann,\x1b[31mnone"]
        Path("h.csv").write_text("user,item\n" + "\n".join(lines) + "\n")
        Path("allow.txt").write_text(f"i8\n{LONG}z\n\x1b[31mno\n")
        words = ["--histories=h.csv", "--topk=3", "--allow_items=allow.txt", "--output=r.csv"]
        error = trained[0](*words)
        assert r"'\x1b[31mnone'" in error
        assert f"'{'x' * 57}...'" in error
        assert len(error) < 1000


def test_a_comparison(compared):
    rows = [*LONGEST, *ROWS[:40], *ONE_ITEM]
    written(text(rows), "tiny")
    outcome = compared("Pop,HVamp", settings_of("SG", data_path="data"), seeds=(1, 2))
    assert not outcome.failures
    users = pd.concat(pd.read_csv(path) for path in Path("out/runs").glob("*.users.csv"))
    assert set(users["user_id"]) <= {row[0] for row in rows}
