"""The Markdown pages for readers, parsed: sections, tables, code, links and anchors."""

import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def _headings(text: str) -> list[str]:
    tokens = _tokens(text)
    opened = [place for place, token in enumerate(tokens) if token.type == "heading_open"]
    return [tokens[place + 1].content for place in opened]


def anchors(text: str) -> set[str]:
    """What a link to a heading may name: small letters, blanks as hyphens, no punctuation."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _headings(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


def links(text: str) -> list[str]:
    """Targets of links and pictures."""
    parts = [part for token in _tokens(text) for part in token.children or []]
    found = [part.attrGet("href") or part.attrGet("src") for part in parts]
    return [str(target) for target in found if target]


def code_blocks(text: str, language: str) -> list[str]:
    return [
        token.content
        for token in _tokens(text)
        if token.type == "fence" and token.info.strip() == language
    ]


def tables(text: str, heading: str) -> list[list[list[str]]]:
    """The tables between a heading and the next one: rows of cells, the header first."""
    found, rows, inside = [], [], False
    tokens = _tokens(text)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            inside = tokens[place + 1].content == heading
        elif not inside:
            continue
        elif token.type == "table_open":
            found.append(rows := [])
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and tokens[place - 1].type in ("td_open", "th_open"):
            rows[-1].append(token.content)
    return found
