"""Pages as a browser reads them."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

TAGS = {"html", "head", "meta", "title", "style", "script", "body", "h1", "h2", "h3", "p", "div"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "b"}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "id", "style", "type", "tabindex"}


class Page(HTMLParser):
    """The elements, headings, rows of tables, scripts and texts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.texts, self.comments = [], [], [], [], []
        self.headings, self.paragraphs, self.rows, self.bold = [], [], [], []
        self._in: list[str] = []
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "meta":
            self._in.append(tag)

    def handle_endtag(self, tag):
        assert self._in.pop() == tag

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        tag = self._in[-1] if self._in else ""
        (self.scripts if tag == "script" else self.texts).append(data)
        for tags, found in (
            (("h1", "h2", "h3"), self.headings),
            (("p",), self.paragraphs),
            (("b",), self.bold),
        ):
            if tag in tags:
                found.append(data)
        if {"td", "th"} & set(self._in):
            self.rows[-1][-1] += data

    def check(self) -> None:
        """Only what the pages are made of, and nothing asked of the network."""
        assert set(self.tags) <= TAGS
        assert {name for name, _ in self.attributes} <= ATTRIBUTES
        assert not self.comments
        # Plotly's own, and one for each figure.
        figures = self.attributes.count(("class", "figure"))
        assert len(self.scripts) == (figures and 1 + figures)
        for script in self.scripts[1:]:
            # Neither an end of the script nor a comment can begin.
            assert "<" not in script
            assert "\u2028" not in script

    def figures(self) -> list[list]:
        """Traces and layout of each figure, as plotly gets them."""
        found = []
        for script in self.scripts[1:]:
            begin = re.search(r"Plotly\.newPlot\(\s*\"figure-\d+\",\s*", script).end()
            data, end = json.JSONDecoder().raw_decode(script, begin)
            layout, _ = json.JSONDecoder().raw_decode(script, script.index("{", end))
            found.append([data, layout])
        return found

    def drawn(self) -> str:
        """The figures' data in one string."""
        return json.dumps(self.figures(), ensure_ascii=False)


def array(values) -> list:
    """A trace's values, which plotly encodes where they are an array."""
    if isinstance(values, list):
        return values
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
