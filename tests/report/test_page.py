"""The page as a reader of HTML sees it."""

from html.parser import HTMLParser

import plotly.graph_objects as go

from recbole_evcf.report.page import Bold, Page

HOSTILE = "<script>alert('x')</script> & \"quotes\""


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.bold, self.headings, self._in = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag):
        self._in.pop()

    def handle_data(self, data):
        where = {"td": self.cells, "b": self.bold, "h1": self.headings, "h2": self.headings}
        if self._in and self._in[-1] in where:
            where[self._in[-1]].append(data)


def written(page, tmp_path):
    page.write(str(tmp_path / "page.html"))
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_foreign_text_stays_text(tmp_path):
    page = Page(HOSTILE)
    page.heading(HOSTILE)
    page.paragraph(HOSTILE)
    page.table([HOSTILE, "n"], [[HOSTILE, 3], [Bold(HOSTILE), 0.5]])
    read = Reader(written(page, tmp_path))
    assert "script" not in [tag for tag, _ in read.tags]
    assert read.headings == [HOSTILE, HOSTILE]
    assert read.cells == [HOSTILE, "3", "0.5"]
    assert read.bold == [HOSTILE]


def test_figures_ask_nothing_of_the_network(tmp_path):
    page = Page("report")
    page.figure(go.Figure(go.Bar(x=["</script><i>"], y=[1])))
    page.figure(go.Figure(go.Bar(x=["b"], y=[2])))
    text = written(page, tmp_path)
    read = Reader(text)
    assert not [attrs for _, attrs in read.tags if "src" in attrs or "href" in attrs]
    assert text.count("</script><i>") == 0
    ids = [attrs["id"] for _, attrs in read.tags if attrs.get("id", "").startswith("figure-")]
    assert ids == ["figure-1", "figure-2"]


def test_the_same_content_gives_the_same_file(tmp_path):
    pages = []
    for _ in range(2):
        page = Page("report")
        page.figure(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])))
        pages.append(written(page, tmp_path))
    assert pages[0] == pages[1]


def test_columns_of_words_start_at_the_left(tmp_path):
    page = Page("report")
    page.table(["model", "figure", "note"], [["a", 1, "b"]], words=(0, 2))
    read = Reader(written(page, tmp_path))
    assert [a["class"] for tag, a in read.tags if tag == "td"] == ["words", "number", "words"]
