"""The page of a whole inspection as a reader of HTML sees it."""

from html.parser import HTMLParser

import pytest

from inspected import SG, untrained
from recbole_evcf.inspection.inspection import inspect_loaded

HOSTILE = "<script>alert(1)</script> & Co"


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.headings, self.rows, self.figures, self.images, self._in = [], [], 0, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self._in.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.figures += dict(attrs).get("class") == "figure"
        self.images += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        self._in.pop()

    def handle_data(self, data):
        if self._in and self._in[-1] in ("h1", "h2"):
            self.headings.append(data)
        if self._in and self._in[-1] == "td":
            self.rows[-1].append(data)


def seen(name, settings, tmp_path, **more):
    config, loaders, recommender, *_ = untrained(name, settings, **more)
    inspection = inspect_loaded(config, recommender, *loaders)
    inspection.report(str(tmp_path / "seen"))
    text = (tmp_path / "seen" / "report.html").read_text(encoding="utf-8")
    return inspection, text, Reader(text)


def test_sections_of_the_final_model(tiny, tmp_path):
    items = "".join(f"i{item}\t{HOSTILE} {item}\n" for item in range(40))
    path = tmp_path / "data" / "tiny" / "tiny.item"
    path.write_text("item_id:token\ttitle:token\n" + items, encoding="utf-8")
    inspection, text, read = seen("GatedHVamp", tiny, tmp_path)
    assert read.headings == [
        "Inside GatedHVamp on tiny",
        "Components of the prior",
        "Aggregated posterior and prior",
        "Latent units",
        "What z1 and z2 carry",
        "Gates",
        "Quality of recommendations",
    ]
    assert read.figures == 7
    assert read.images == []
    assert HOSTILE not in text
    first = next(inspection.tables["components"].itertuples())
    row = next(row for row in read.rows if row[:2] == [str(first.component), str(first.users)])
    items = inspection.tables["component_items"].query(
        f"component == {first.component} and by == 'distinction'"
    )
    assert row[4].startswith(f"{items['name'].iloc[0]} ({items['lift'].iloc[0]:.1f}); ")
    replaced = inspection.tables["replaced_levels"].set_index("replaced")
    row = next(row for row in read.rows if row[:1] == ["z1 and z2"])
    assert row[1].startswith(f"{replaced['ndcg']['z1 and z2']:.4f} ± ")


def test_the_standard_normal_prior_has_what_applies(tiny, tmp_path):
    split = {"split": SG, "order": "RO", "group_by": "user", "mode": "full"}
    inspection, _, read = seen("GatedMultiVAE", tiny, tmp_path, eval_args=split, gated=False)
    assert read.headings == [
        "Inside GatedMultiVAE on tiny",
        "The prior",
        "Aggregated posterior and prior",
        "Latent units",
        "What z carries",
        "Quality of recommendations",
    ]
    assert not {"components", "component_items", "gates"} & set(inspection.tables)
    assert inspection.facts["training users"] == 36
    assert inspection.facts["test users"] == 12


@pytest.mark.parametrize("name", ["Vamp", "GatedMultiVAE"])
def test_a_single_unit_has_no_plane(name, tiny, tmp_path):
    inspection, _, read = seen(name, tiny, tmp_path, latent_dimension=1)
    assert "Aggregated posterior and prior" not in read.headings
    assert "density" not in inspection.tables
    assert "pc1" not in inspection.tables["users"]


def test_without_test_users_there_is_no_quality(tiny, tmp_path):
    split = {"split": {"LS": "valid_only"}, "order": "RO", "group_by": "user", "mode": "full"}
    inspection, _, read = seen("Vamp", tiny, tmp_path, eval_args=split)
    assert inspection.facts["test users"] == 0
    assert read.headings[-1] == "What z carries"
