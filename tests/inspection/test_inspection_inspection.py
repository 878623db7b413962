"""The whole inspection: its draws, its page and files, and rows that belong to whom they name."""

import numpy as np
import pandas as pd
import pytest
import torch
from pages import Page

from inspected import SG, untrained
from recbole_evcf.inspection import inspection
from recbole_evcf.inspection.inspection import Inspection, inspect_loaded, item_names
from recbole_evcf.inspection.prior import fit_plane

HOSTILE = "<script>alert(1)</script> & Co"


def test_the_draws_depend_on_the_seed_alone(tiny):
    config, loaders, recommender, *_ = untrained("GatedHVamp", tiny)
    first = inspect_loaded(config, recommender, *loaders)
    torch.rand(3)
    second = inspect_loaded(config, recommender, *loaders)
    assert first.facts == second.facts
    for name, table in first.tables.items():
        assert table.equals(second.tables[name])


def test_users_and_components_stand_where_they_are(tiny):
    config, loaders, recommender, _, model, histories, users = untrained("Vamp", tiny)
    tables = inspect_loaded(config, recommender, *loaders).tables
    means = model.means(histories.rows(users))[0].double().numpy()
    plane = fit_plane(means)
    of_users = tables["users"][["pc1", "pc2"]]
    np.testing.assert_allclose(of_users, plane.transform(means), atol=1e-6)
    tokens = loaders[0]._dataset.id2token("user_id", users.numpy())
    assert tables["users"]["user_id"].tolist() == list(tokens)
    components = tables["components"].set_index("component").sort_index()
    assert tables["components"]["component"].tolist() != list(range(7))
    centres = plane.transform(model.components.mean.double().numpy())
    np.testing.assert_allclose(components[["pc1", "pc2"]], centres, atol=1e-6)


def seen(name, settings, tmp_path, **more):
    config, loaders, recommender, *_ = untrained(name, settings, **more)
    inspection = inspect_loaded(config, recommender, *loaders)
    inspection.report(str(tmp_path / "seen"))
    page = Page(tmp_path / "seen" / "report.html")
    page.check()
    return inspection, page


def test_sections_of_the_final_model(tiny, tmp_path):
    items = "".join(f"i{item}\t{HOSTILE} {item}\n" for item in range(40))
    path = tmp_path / "data" / "tiny" / "tiny.item"
    path.write_text("item_id:token\ttitle:token\n" + items, encoding="utf-8")
    inspection, page = seen("GatedHVamp", tiny, tmp_path)
    assert page.headings == [
        "Inside GatedHVamp on tiny",
        "Components of the prior",
        "Aggregated posterior and prior",
        "Latent units",
        "What z1 and z2 carry",
        "Gates",
        "Quality of recommendations",
        "By length of history",
        "By popularity of the item",
    ]
    assert len(page.figures()) == 7
    first = next(inspection.tables["components"].itertuples())
    row = next(row for row in page.rows if row[:2] == [str(first.component), str(first.users)])
    items = inspection.tables["component_items"].query(
        f"component == {first.component} and by == 'distinction'"
    )
    assert row[4].startswith(f"{items['name'].iloc[0]} ({items['lift'].iloc[0]:.1f}); ")
    replaced = inspection.tables["replaced_levels"].set_index("replaced")
    row = next(row for row in page.rows if row[:1] == ["z1 and z2"])
    assert row[1].startswith(f"{replaced['ndcg']['z1 and z2']:.4f} ± ")


def test_the_standard_normal_prior_has_what_applies(tiny, tmp_path):
    split = {"split": SG, "order": "RO", "group_by": "user", "mode": "full"}
    inspection, page = seen("GatedMultiVAE", tiny, tmp_path, eval_args=split, gated=False)
    assert page.headings == [
        "Inside GatedMultiVAE on tiny",
        "The prior",
        "Aggregated posterior and prior",
        "Latent units",
        "What z carries",
        "Quality of recommendations",
        "By length of history",
        "By popularity of the item",
    ]
    assert not {"components", "component_items", "gates"} & set(inspection.tables)
    assert inspection.facts["training users"] == 36
    assert inspection.facts["test users"] == 12


@pytest.mark.parametrize("name", ["Vamp", "GatedMultiVAE"])
def test_a_single_unit_has_no_plane(name, tiny, tmp_path):
    inspection, page = seen(name, tiny, tmp_path, latent_dimension=1)
    assert "Aggregated posterior and prior" not in page.headings
    assert "density" not in inspection.tables
    assert "pc1" not in inspection.tables["users"]


def test_without_test_users_there_is_no_quality(tiny, tmp_path):
    split = {"split": {"LS": "valid_only"}, "order": "RO", "group_by": "user", "mode": "full"}
    inspection, page = seen("Vamp", tiny, tmp_path, eval_args=split)
    assert inspection.facts["test users"] == 0
    assert page.headings[-1] == "What z carries"


TOKENS = np.array(["1", "2", "30"], dtype=object)


def named(tmp_path, text, **settings):
    (tmp_path / "d").mkdir()
    if text is not None:
        (tmp_path / "d" / "d.item").write_text(text, encoding=settings.get("encoding", "utf-8"))
    config = {
        "data_path": str(tmp_path / "d"),
        "dataset": "d",
        "field_separator": "\t",
        "seq_separator": " ",
        "encoding": "utf-8",
        "ITEM_ID_FIELD": "item_id",
        **settings,
    }
    return item_names(config, TOKENS)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("item_id:token\tclass:token_seq\tmovie_title:token_seq", "b"),
        ("item_id:token\tstudio_name:token\tTitle:token", "b"),
        ("item_id:token\tname:token\tprice:token", "a"),
        ("item_id:token\tprice:float\ttitle_length:float", None),
    ],
)
def test_the_column_of_names(header, name, tmp_path):
    names = named(tmp_path, f"{header}\n1\ta\tb\n")
    assert names is None if name is None else names.tolist() == [name, "2", "30"]


def test_names_by_token_whatever_their_order(tmp_path):
    text = "item_id:token\tprice:float\ttitle:token\n30\t1\tNone\n1\t2\tToy, Story & <b>\n9\t3\tX\n"
    assert named(tmp_path, text).tolist() == ["Toy, Story & <b>", "2", "None"]


def test_words_of_a_sequence_become_a_title(tmp_path):
    text = "item_id:token,name:token_seq\n1,Toy|Story\n2,\n30,Heat\n"
    names = named(tmp_path, text, field_separator=",", seq_separator="|", encoding="latin-1")
    assert names.tolist() == ["Toy Story", "2", "Heat"]


@pytest.mark.parametrize("text", [None, "item_id:token\tprice:float\n1\t2\n"])
def test_without_names(text, tmp_path):
    assert named(tmp_path, text) is None


def test_a_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"d\.item"):
        named(tmp_path, "movie:token\ttitle:token\n1\tx\n")


class Nothing:
    """In the page's place: what is drawn is tested elsewhere."""

    def __init__(self, *parts):
        pass

    def write_html(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.write("page")


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "report", Nothing)

    def write(**tables):
        return Inspection(tables=tables).report(str(tmp_path / "a" / "out"))

    return write


TABLE = pd.DataFrame({"a": [1, 2]})


def test_files_of_an_older_inspection_go_and_others_stay(written, tmp_path):
    folder = tmp_path / "a" / "out"
    assert written(components=TABLE, units=TABLE) == ["report.html", "components.csv", "units.csv"]
    (folder / "mine.csv").write_text("x", encoding="utf-8")
    written(units=TABLE * 2)
    assert sorted(path.name for path in folder.iterdir()) == [
        "mine.csv",
        "report.html",
        "units.csv",
    ]
    assert pd.read_csv(folder / "units.csv")["a"].tolist() == [2, 4]


def test_what_cannot_be_written_replaces_nothing(written, tmp_path):
    class Unwritable(pd.DataFrame):
        def to_csv(self, *args, **kwargs):
            raise OSError("the disk is full")

    written(levels=TABLE, units=TABLE)
    with pytest.raises(OSError, match="full"):
        written(levels=TABLE * 2, units=Unwritable({"a": [1]}))
    folder = tmp_path / "a" / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "levels.csv",
        "report.html",
        "units.csv",
    ]
    assert pd.read_csv(folder / "levels.csv")["a"].tolist() == [1, 2]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_no_folder(place, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="is a file"):
        inspection.check_folder(str(tmp_path / place))
