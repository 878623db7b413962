"""Hooks of mkdocs: the notebook as a page, and links that only a checkout has."""

from __future__ import annotations

import json
import re
from pathlib import Path

NOTEBOOK = Path(__file__).with_name("quickstart.ipynb")


def on_files(files, config):
    """Add the notebook with its outputs as ``quickstart.md``."""
    from mkdocs.structure.files import File

    page = as_markdown(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    files.append(File.generated(config, "quickstart.md", content=page))
    return files


def on_page_markdown(markdown, **_):
    """Keep the words alone of links that leave the folder of the documents."""
    return re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", markdown)


def as_markdown(notebook: dict) -> str:
    """The cells of a notebook and what they printed; HTML of outputs as it is."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_shown(output) for output in cell.get("outputs", [])]
    return "\n\n".join(filter(None, parts)) + "\n"


def _shown(output: dict) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        # A blank line would end the HTML.
        return re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))
    return f"```\n{''.join(data['text/plain']).rstrip()}\n```"
