"""The whole inspection: its draws, its page and files, and rows that belong to whom they name."""

import numpy as np
import pandas as pd
import pytest
import torch
from pages import Page
from sklearn.decomposition import PCA

from build import RS, SG
from conftest import write_inter
from inspected import untrained
from naive import affine
from recbole_evcf.inspection import inspection
from recbole_evcf.inspection.inspection import inspect_loaded, item_names
from recbole_evcf.inspection.measures import gate_values, history_batches
from recbole_evcf.inspection.report import Inspection
from recbole_evcf.report.page import Report

HOSTILE = "<script>alert(1)</script> & Co"


def test_the_draws_depend_on_the_seed_alone(tiny):
    config, loaders, recommender, *_ = untrained("GatedHVamp", tiny)
    first, second = (inspect_loaded(config, recommender, *loaders) for _ in range(2))
    assert first.facts == second.facts
    for name, table in first.tables.items():
        assert table.equals(second.tables[name])


def test_users_units_and_components_are_who_they_are(tiny, monkeypatch):
    config, loaders, recommender, _, model, histories, users = untrained("Vamp", tiny)
    means = model.means(histories.rows(users))[0].double().numpy()
    variance = means.var(0, ddof=1)
    monkeypatch.setattr(inspection, "ACTIVE", np.median(variance))
    found = inspect_loaded(config, recommender, *loaders)
    tables = found.tables
    plane = PCA(2, svd_solver="full").fit(means)
    np.testing.assert_allclose(tables["users"][["pc1", "pc2"]], plane.transform(means), atol=1e-6)
    np.testing.assert_allclose(found.explained, plane.explained_variance_ratio_, atol=1e-6)
    tokens = loaders[0]._dataset.id2token("user_id", users.numpy())
    assert tables["users"]["user_id"].tolist() == list(tokens)
    components = tables["components"].set_index("component").sort_index()
    assert tables["components"]["component"].tolist() != list(range(7))
    centres = plane.transform(model.components.mean.double().numpy())
    np.testing.assert_allclose(components[["pc1", "pc2"]], centres, atol=1e-6)
    shares = components["share"][components["share"] > 0]
    effective = np.exp(-(shares * np.log(shares)).sum())
    assert found.facts["effective number of components"] == pytest.approx(effective)
    units = tables["units"]
    assert units["unit"].tolist() == np.argsort(-variance).tolist()
    np.testing.assert_allclose(units["variance"], variance[units["unit"]])
    assert units["active"].tolist() == [True] * 4 + [False] * 4
    assert tables["levels"]["active"].tolist() == [4]


def test_the_linear_path_counts_and_is_a_row_of_its_own(tiny):
    config, loaders, recommender, trainer, *_ = untrained("GatedHVampLinear", tiny)
    tables = inspect_loaded(config, recommender, *loaders).tables
    rows = tables["replaced_levels"].set_index("replaced")["ndcg"]
    assert rows.index.tolist() == ["nothing", "z1", "z2", "z1 and z2", "linear path"]
    trainer.eval_collector.data_collect(loaders[0])
    result = trainer.evaluate(loaders[2], load_best_model=False)
    assert rows["nothing"] == pytest.approx(result["ndcg@10"], abs=1e-4)
    recommender.linear_weight.zero_()
    alone = trainer.evaluate(loaders[2], load_best_model=False)
    assert rows["linear path"] == pytest.approx(alone["ndcg@10"], abs=1e-4) != rows["nothing"]


def test_gates_by_layer_and_popularity(tiny):
    config, loaders, recommender, _, model, histories, ids = untrained("GatedMultiVAE", tiny)
    tables = inspect_loaded(config, recommender, *loaders).tables
    users = gate_values(model, history_batches(histories, ids))
    dense = histories.rows(ids).dense().numpy()
    popularity = dense.sum(0)
    alone = torch.eye(len(popularity))
    items = torch.sigmoid(affine(model.network.encoder.first.gate, alone)).mean(1).numpy()
    gates = tables["gates"].set_index("layer")
    assert list(gates.index) == list(users) == ["q(z | x)", "p(x | z)"]
    for name, values in users.items():
        np.testing.assert_allclose(gates.loc[name, ["mean", "shut", "open"]], values.mean())
        assert gates["std"][name] == pytest.approx(values["mean"].std())
    assert gates["single_item_mean"]["q(z | x)"] == pytest.approx(items.mean(), rel=1e-5)
    table = tables["gates_by_popularity"].query("layer == 'q(z | x)'")
    of_users = (dense @ popularity) / dense.sum(1)
    ways = {"users": (of_users, users["q(z | x)"]["mean"]), "items": (popularity, items)}
    for grouped, (along, values) in ways.items():
        rows = table[table["grouped"] == grouped]
        assert rows["count"].sum() == len(along)
        for row in rows.to_dict("records"):
            inside = (along >= row["from"] - 1e-6) & (along <= row["to"] + 1e-6)
            assert row["count"] == inside.sum()
            assert row["mean"] == pytest.approx(values[inside].mean(), rel=1e-5)


def test_what_is_lost_without_a_level(tiny):
    config, loaders, recommender, _, model, histories, _ = untrained("GatedMultiVAE", tiny)
    table = inspect_loaded(config, recommender, *loaders).tables["replaced_levels"]
    assert table["replaced"].tolist() == ["nothing", "z"]
    history = histories.rows(loaders[2].uid_list)
    p = model.probabilities(*model.means(history))
    of_users = (history.dense() * p.log()).sum(1) / history.lengths
    assert table["log_likelihood"][0] == pytest.approx(float(of_users.mean()), rel=1e-5)
    error = float(of_users.std()) / np.sqrt(len(of_users))
    assert table["log_likelihood_se"][0] == pytest.approx(error, rel=1e-4)


def seen(name, settings, tmp_path, **more):
    config, loaders, recommender, *_ = untrained(name, settings, **more)
    found = inspect_loaded(config, recommender, *loaders)
    found.report(str(tmp_path / "seen"))
    page = Page(tmp_path / "seen" / "report.html")
    page.check()
    return found, page


def test_sections_of_the_final_model(tiny, tmp_path):
    titles = [(f"i{item}", f"{HOSTILE} {item}") for item in range(40)]
    write_inter(tiny["data_path"], "tiny", titles, "item_id:token\ttitle:token", "item")
    found, page = seen("GatedHVamp", tiny, tmp_path)
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
    assert not any("{" in text for text in page.paragraphs)
    first = next(found.tables["components"].itertuples())
    row = next(row for row in page.rows if row[:2] == [str(first.component), str(first.users)])
    items = found.tables["component_items"].query(
        f"component == {first.component} and by == 'distinction'"
    )
    assert row[4].startswith(f"{items['name'].iloc[0]} ({items['lift'].iloc[0]:.1f}); ")
    replaced = found.tables["replaced_levels"].set_index("replaced")
    row = next(row for row in page.rows if row[:1] == ["z1 and z2"])
    assert row[1].startswith(f"{replaced['ndcg']['z1 and z2']:.4f} ± ")


def test_the_standard_normal_prior_has_what_applies(tiny, tmp_path):
    found, page = seen("GatedMultiVAE", tiny, tmp_path, eval_args=SG, gated=False)
    assert page.headings[1:3] == ["The prior", "Aggregated posterior and prior"]
    assert page.headings[4:6] == ["What z carries", "Quality of recommendations"]
    assert not {"components", "component_items", "gates"} & set(found.tables)
    assert found.facts["training users"] == 36
    assert found.facts["test users"] == 12


def test_a_single_unit_has_no_plane_and_without_test_users_there_is_no_quality(tiny, tmp_path):
    split = {**RS, "split": {"LS": "valid_only"}}
    found, page = seen("Vamp", tiny, tmp_path, latent_dimension=1, eval_args=split)
    assert "Aggregated posterior and prior" not in page.headings
    assert "density" not in found.tables
    assert "pc1" not in found.tables["users"]
    assert found.facts["test users"] == 0
    assert page.headings[-1] == "What z carries"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item_id:token\tclass:token_seq\tmovie_title:token_seq\n1\ta\tb\n", {"1": "b"}),
        ("item_id:token\tstudio_name:token\tTitle:token\n1\ta\tb\n", {"1": "b"}),
        ("item_id:token\tname:token\tprice:token\n1\ta\tb\n", {"1": "a"}),
        ("item_id:token\tprice:float\ttitle_length:float\n1\t2\t3\n", None),
        (None, None),
        # Some are called None; and words of a sequence become a title.
        ("item_id:token\ttitle:token\n3\tNone\n1\tToy, <b>\n2\t\n", {"1": "Toy, <b>", "3": "None"}),
        ("item_id:token\tname:token_seq\n1\tToy|Störy\n2\t\n", {"1": "Toy Störy"}),
    ],
)
def test_names_of_items(text, expected, tmp_path):
    config = {"data_path": str(tmp_path), "dataset": "d", "ITEM_ID_FIELD": "item_id"}
    config |= {"field_separator": "\t", "seq_separator": "|", "encoding": "latin-1"}
    if text is not None:
        (tmp_path / "d.item").write_text(text, encoding="latin-1")
    names = item_names(config)
    assert expected == (None if names is None else names.to_dict())


class Unwritable(pd.DataFrame):
    def to_csv(self, *args, **kwargs):
        raise OSError("the disk is full")


def test_files_of_an_older_inspection_go_together_and_others_stay(tmp_path, monkeypatch):
    # What is drawn is tested elsewhere.
    monkeypatch.setattr("recbole_evcf.inspection.report.page", lambda found: Report("x", []))
    folder, table = tmp_path / "a" / "out", pd.DataFrame({"a": [1, 2]})

    def write(**tables):
        names = Inspection(tables=tables).report(str(folder))
        return names, sorted(path.name for path in folder.iterdir())

    names = ["report.html", "components.csv", "units.csv"]
    assert write(components=table, units=table) == (names, sorted(names))
    (folder / "mine.csv").write_text("x", encoding="utf-8")
    kept = ["mine.csv", "report.html", "units.csv"]
    assert write(units=table * 2)[1] == kept
    with pytest.raises(OSError, match="full"):
        write(units=table, users=Unwritable({"a": [1]}))
    assert sorted(path.name for path in folder.iterdir()) == kept
    assert pd.read_csv(folder / "units.csv")["a"].tolist() == [2, 4]
