"""Every link of the README and the guides leads somewhere, in a checkout."""

from urllib.parse import unquote

import pytest

from documents import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    found = links(text)
    assert found or page.name == "api.md"
    for target in found:
        if target.startswith("https://"):
            continue
        path, _, anchor = unquote(target).partition("#")
        # Made of the notebook when the site is built.
        path = path.replace("quickstart.md", "quickstart.ipynb")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_site_has_every_page():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or f": {page.name}\n" in navigation, page.name
