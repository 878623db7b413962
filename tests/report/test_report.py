"""Values, tables and pages as readers see them."""

import math
import re

import pandas as pd
import plotly.graph_objects as go
import pytest
from pages import Page

from recbole_evcf.report.page import Report, Section, figure_text, styled
from recbole_evcf.report.table import (
    Table,
    duration,
    number,
    setting,
    validation_and_test,
    value_and_error,
)

HOSTILE = "<script>alert('x')</script> & \"quotes\" | \x1b[31m"


def written(tmp_path, *parts, title="report"):
    Report(title, [Section(title, parts)]).write_html(str(tmp_path / "page.html"))
    return tmp_path / "page.html"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (number(0.41234), "0.4123"),
        (number(1682), "1,682"),
        (number(2020, "d"), "2020"),
        (number(0.00001, "p"), "<\u00a00.0001"),
        (number(0.25, "p"), "0.2500"),
        (number(math.nan, "+.4f"), "–"),
        (number(None, "p"), "–"),
        (number("failed"), "failed"),
        (value_and_error(0.41234, 0.0045), "0.4123 ± 0.0045"),
        (value_and_error(0.41234, None), "0.4123"),
        (value_and_error(0.41234, math.nan), "0.4123"),
        (value_and_error(math.nan, 0.1), "–"),
        (value_and_error(0.5, 0.25, "+.2f"), "+0.50 ± 0.25"),
        (setting(0.00012345), "0.0001234"),
        (setting([8]), "[8]"),
        (duration(61.2), "61 s"),
        (duration(600), "10 min"),
        (duration(9000), "2.5 h"),
    ],
)
def test_values(found, text):
    assert found == text


ROWS = [("Pop", 0.1, 0.01, 1000), (HOSTILE, 0.25, None, 7)]
FRAME = pd.DataFrame(ROWS, columns=["model", "ndcg@10", "ndcg@10_se", "users"])
TABLE = Table(FRAME, {"ndcg@10": "NDCG@10"}, bold=pd.DataFrame({"ndcg@10": [False, True]}))


def test_a_terminal_gets_blocks_that_fit_and_nothing_that_steers_it():
    text = TABLE.text()
    assert text.splitlines()[2].split() == ["Pop", "0.1000", "±", "0.0100", "1,000"]
    assert text.splitlines()[3].endswith(r"\x1b[31m          *0.2500        7")
    blocks = TABLE.text(width=70).split("\n\n")
    heads = [block.split("\n")[0].split() for block in blocks]
    assert heads == [["model", "NDCG@10"], ["model", "users"]]


def test_markdown_and_latex_are_plain_text():
    line = TABLE.markdown().splitlines()[3]
    assert line.startswith(r"| \<script\>alert('x')\</script\> \& " + '"quotes"')
    assert [cell.strip() for cell in line.split(" | ")[1:]] == ["**0.2500**", "7 |"]
    latex = TABLE.latex("100 % ± _", "tab:x")
    rows = [line for line in latex.splitlines() if "&" in line]
    assert rows[0] == r"model & NDCG@10 & users \\"
    assert rows[1] == r"Pop & $0.1000 \pm 0.0100$ & $1,000$ \\"
    assert r"\& " in rows[2]
    assert rows[2].endswith(r" & $\mathbf{0.2500}$ & $7$ \\")
    assert r"\caption{100 \% $\pm$ \_}" in latex


def test_metrics_of_a_run():
    table = validation_and_test({"recall@5": 0.5, "recall@5_se": 0.01}, {"recall@5": None})
    assert table.text().splitlines()[2].split() == ["recall@5", "0.5000", "±", "0.0100", "–"]


def test_a_page_shows_text_as_text(tmp_path):
    page = Page(written(tmp_path, HOSTILE, TABLE, title=HOSTILE))
    page.check()
    assert page.headings == [HOSTILE, HOSTILE]
    assert page.paragraphs == [HOSTILE]
    assert page.rows[1:] == [["Pop", "0.1000 ± 0.0100", "1,000"], [HOSTILE, "0.2500", "7"]]
    assert page.bold == ["0.2500"]
    classes = [value for name, value in page.attributes if name == "class"]
    assert classes == ["wide", *["words", "number", "number"] * 3]


def test_figures_ask_nothing_of_the_network(tmp_path):
    figures = [go.Figure(go.Bar(x=["</script><i>"], y=[1])), go.Figure(go.Bar(x=["b"], y=[2]))]
    path = written(tmp_path, *figures)
    Page(path).check()
    text = path.read_text(encoding="utf-8")
    assert re.findall('id="(figure-.)"', text) == ["figure-1", "figure-2"]
    assert text == written(tmp_path, *figures).read_text(encoding="utf-8")


def test_the_style_of_figures():
    figure = go.Figure(go.Bar(x=["a"], y=[1]))
    assert styled(figure, 320, margin={"l": 7}) is figure
    layout = figure.to_plotly_json()["layout"]
    assert (layout["height"], layout["margin"]) == (320, {"l": 7})
    assert layout["legend"]["orientation"] == "h"
    assert figure_text('<b>"it\'s" & &lt;') == '&lt;b&gt;"it\'s" &amp; &amp;lt;'
