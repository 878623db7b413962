"""The README's way from a shop's table to recommendations, command by command."""

import csv
import gzip
import json
import random
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from documents import code_blocks, read
from recbole_evcf import Recommender, cli

# Whatever proxy the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TIMES = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.000+00:00", "%Y-%m-%dT%H:%M")
# What is wrong in a row, of a user whom no other row has.
ODD = [
    (["", "SKU12A", "4", "2026-11-26"], "without customer"),
    (["C-999", " ", "4", "2026-11-26"], "without sku"),
    (["C-999", "SKU\t9", "4", "2026-11-26"], "with control characters in sku"),
    (["C-999", "SKU12A", "", "2026-11-26"], "without stars"),
    (["C-999", "SKU12A", "much", "2026-11-26"], "whose stars is not a number"),
    (["C-999", "SKU12A", "inf", "2026-11-26"], "whose stars is not a number"),
    (["C-999", "SKU12A", "4", ""], "without date"),
    (["C-999", "SKU12A", "4", "yesterday"], "whose date is not a number or a date such as"),
    (["C-999", "SKU12A", "4", "1700000000000"], "whose date is not a number or a date such as"),
]
PRODUCTS = 'sku;title\nSKU12A;"Tea; ""Earl Grey"""\nSKU0A;Pot with\ta lid\nSKU999A;Not sold\n'


def sold(folder):
    """Write a shop's files; return what is to be taken of them: user and item, and the time."""
    draw, rows, taken = random.Random(18), [], {}
    for n in range(900):
        user = draw.choice(["C-{:03}", "k{}@example.org", "{:02}"]).format(draw.randrange(30))
        moment = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=37 * n)
        item = f"SKU{int(40 * draw.random() ** 2)}A"
        rows.append([user, item, draw.choice(["5", "4.5", "1e0"]), moment.strftime(TIMES[n % 4])])
        taken.pop((user, item), None)
        taken[user, item] = moment.timestamp()
    for row, _ in ODD:
        rows.insert(draw.randrange(len(rows)), row)
    with gzip.open(folder / "orders.csv.gz", "wt", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["customer", "sku", "stars", "date"], *rows])
    (folder / "products.csv").write_text(PRODUCTS)
    return taken


def commands(path):
    """The words of each of the README's commands, with the model file that the run has named."""
    (block,) = (b for b in code_blocks(read("README.md"), "bash") if "prepare table" in b)
    lines = (shlex.split(line, comments=True) for line in block.splitlines())
    return [[re.sub("saved/.*-[.]{4}pth", path, word) for word in words] for words in lines]


def test_from_a_table_to_recommendations(tmp_path, capsys):
    pytest.importorskip("fastapi", reason="no FastAPI")
    taken = sold(tmp_path)
    prepare, run, *_ = commands("")
    assert cli.main(prepare[1:]) == 0
    said = capsys.readouterr().out
    for reason in {reason for _, reason in ODD}:
        number = sum(each == reason for _, each in ODD)
        assert f"  left out: {number} {reason}" in said
    assert f"  left out: {900 - len(taken)} earlier ones of the same user and item\n" in said
    assert "  times are dates\n" in said
    assert f"  2 titles; {len({item for _, item in taken}) - 2} items have none\n" in said
    written = pd.read_csv("dataset/shop/shop.inter", sep="\t", dtype=str)
    times = written.pop("timestamp:float").astype(float)
    assert [*zip(written["user_id:token"], written["item_id:token"])] == list(taken)
    assert times.tolist() == list(taken.values())

    assert cli.main([*run[1:], "--epochs=3", "--show_progress=False"]) == 0
    told = capsys.readouterr().err
    model_file = re.search(r"^The model is in (\S+)$", told, re.MULTILINE)[1]
    *_, recommend, app = commands(model_file)
    assert f"\n  {shlex.join(recommend)}\n" in told
    assert cli.main(recommend[1:]) == 0
    users = {user for user, _ in taken}
    assert set(pd.read_csv("recommendations.csv", dtype=str)["user"]) == users

    words = [sys.executable, "-m", "recbole_evcf", *app[1:], "--port=0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
            histories = [["SKU12A", "SKU0A"], ["SKU3A"], [], ["SKU999A"]]
            question = json.dumps({"histories": histories}).encode()
            asked = urllib.request.Request(f"{url}/recommend", question)
            asked.add_header("Content-Type", "application/json")
            answers = json.load(DIRECT.open(asked))["recommendations"]
            found = json.load(DIRECT.open(f"{url}/items?q=earl%20tea"))
            about = json.load(DIRECT.open(f"{url}/models"))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert found == [{"item": "SKU12A", "title": 'Tea; "Earl Grey"'}]
    assert about["users"] == len(users)
    with pytest.warns(UserWarning, match="SKU999A"):
        frame = Recommender.load(model_file).recommend(histories)
    for (_, expected), answer in zip(frame.groupby("user"), answers, strict=True):
        assert answer["items"] == expected["item"].tolist()
        np.testing.assert_allclose(np.float32(answer["scores"]), expected["score"], rtol=1e-6)
