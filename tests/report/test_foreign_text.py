"""Every page shows foreign text as text: titles, ids, names, labels, parameters and reasons."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pages import Page

from conftest import config_files, write_inter
from recbole_evcf import cli
from recbole_evcf.comparison import compare
from recbole_evcf.tuning.report import write_report
from recbole_evcf.tuning.search import Parameter, Search

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title></style></textarea><svg onload=alert(1)>",
    "<!-- <script>",
    "]]>",
    "\"'`><img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">javascript:alert(1)</a>',
    "\u2028alert(1)\u2029",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "%{x} $1 \\u003cscript\\u003e {{x}}",
    "=cmd()",
    "\x1b[31mred",
)
# What a data set may be called: no separators of folders.
TITLES = "item_id:token\ttitle:token"
NAME = "<img src=x onerror=alert(1)>&lt;\"'"


def hostile_tiny(tiny) -> list[str]:
    """The tiny data set under a hostile name with hostile ids and titles; the words to read it."""
    rng = np.random.default_rng(11)
    folder = Path(tiny["data_path"])
    titles = [f"{(HOSTILE * 4)[n]} {n}" for n in range(40)]
    # The ids are read as they are in quotation marks.
    items = [f"'{title}'".replace('"', "'") for title in titles]
    rows = []
    for user in range(60):
        chosen = rng.choice(40, size=int(rng.integers(8, 20)), replace=False)
        rows += [(f"u{user} {HOSTILE[user % 3]}", items[item], int(user)) for item in chosen]
    write_inter(folder, NAME, rows)
    titles = [title.replace('"', "”") for title in titles]
    write_inter(folder, NAME, zip(items, titles), TITLES, "item")
    return words_of(tiny)


def words_of(settings) -> list[str]:
    return [f"--{key}={value}" for key, value in {**settings, "epochs": 1}.items()]


def inspected(model: str, dataset: str, words: list[str]) -> str:
    """The texts of the page on a model that was trained."""
    assert cli.main(["run", f"--model={model}", f"--dataset={dataset}", *words]) == 0
    (path,) = Path("saved").glob("*.pth")
    assert cli.main(["inspect", f"--model_file={path}", "--output=seen"]) == 0
    return texts_of("seen/report.html")


def texts_of(path) -> str:
    """The texts of a page, none of which is read as HTML."""
    page = Page(path)
    page.check()
    # What plotly takes for tags are its own.
    drawn = page.drawn().replace("</b>", "").replace("</extra>", "")
    for tag in ("<script", "<svg", "<a ", "<!--", "<img", "</"):
        assert tag not in drawn
    return "".join(page.texts)


def printed(capsys) -> str:
    output = capsys.readouterr()
    assert "\x1b[31m" not in output.out + output.err
    return output.err


def test_inspect(tiny, capsys):
    text = inspected("GatedHVamp", NAME, hostile_tiny(tiny))
    printed(capsys)
    assert f"Inside GatedHVamp on {NAME}" in text
    # Six of forty titles in each row: some of each kind.
    assert sum(title.replace('"', "”") in text for title in HOSTILE) > 5
    assert re.search("onerror|script", Page("seen/report.html").drawn())


@pytest.fixture
def failing_unless(in_process, monkeypatch):
    """Function that lets other runs than of some models fail; returns the reason they give."""
    run_here, reason = compare.run_in_process, " ".join(HOSTILE)

    def choose(good) -> str:
        def run(run, store):
            return run_here(run, store) if good(run.spec) else reason

        monkeypatch.setattr(compare, "run_in_process", run)
        return reason

    return choose


def test_compare(tiny, failing_unless, capsys):
    words, reason = hostile_tiny(tiny), failing_unless(lambda spec: spec.model != "Pop")
    labels = [f'wandb_project="{text}"' for text in HOSTILE[:5] if '"' not in text]
    models = ",".join(["Pop", *(f"HVamp[{label}]" for label in labels)])
    code = cli.main(["compare", f"--models={models}", f"--dataset={NAME}", "--output=out", *words])
    printed(capsys)
    assert code == 1
    text = texts_of("out/report.html")
    assert f"Comparison on {NAME}" in text
    for label in labels:
        assert f"HVamp[{' '.join(label.split())}]" in text
    assert reason in text
    markdown = Path("out/comparison.md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)[<>]", markdown)
    latex = Path("out/comparison.tex").read_text(encoding="utf-8")
    assert r"\&lt;" in latex
    assert not re.search(r"(?<!\\)&lt", latex)


def test_reproduce(tiny, failing_unless, capsys):
    hostile_tiny(tiny)
    reason = failing_unless(lambda spec: spec.label == "Mult-VAE")
    more = ["--output=out", "--topk=[20,50,100]", f"--wandb_project={HOSTILE[1]}"]
    files = config_files({**tiny, "epochs": 1, "mlp_hidden_size": [8]})
    command = ["reproduce", "table1", f"--dataset={NAME}", files, *more]
    assert cli.main(command) == 1, printed(capsys)
    text = texts_of("out/table1.html")
    for each in (f"on {NAME}", reason, more[-1]):
        assert each in text


def test_a_title_of_100000_characters_is_shortened(tiny):
    long = "T" * 100_000
    rows = [(f"i{item}", f"{item} {long}") for item in range(40)]
    write_inter(tiny["data_path"], "tiny", rows, TITLES, "item")
    text = inspected("Vamp", "tiny", words_of(tiny))
    assert "T" * 58 not in text + Page("seen/report.html").drawn()
    assert "T" * 50 + "... (" in text
    # The table beside it has all of it.
    assert long in Path("seen/component_items.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_tune(tmp_path, hostile):
    space = [
        Parameter("likelihood", "choice", ("multinomial", hostile)),
        Parameter(hostile, "uniform", (0.0, 1.0)),
    ]
    metric = f"{hostile}@3"
    finished = {"status": "finished", "score": 0.1, "valid": {metric.lower(): 0.1}}
    finished |= {"history": [[1, 0.1]], "best_epoch": 1, "epochs": 1, "seconds": 1.0}
    trials = [
        {"number": number, "params": {"likelihood": likelihood, hostile: number / 10}, **finished}
        for number, likelihood in ((1, hostile), (2, "multinomial"))
    ]
    params = trials[0]["params"]
    trials.append({"number": 3, "status": "failed", "params": params, "reason": hostile})
    best = {"model": hostile, "dataset": hostile, **trials[0], "test": {hostile: 0.2}}
    found = SimpleNamespace(trials=trials, space=space, algo=hostile, metric=metric, bigger=True)
    found.table = lambda: Search.table(found)
    write_report(str(tmp_path / "page.html"), found, best)
    text = texts_of(tmp_path / "page.html")
    assert f"Tuning of {hostile} on {hostile}" in text
    assert f"failed: {hostile}" in text
