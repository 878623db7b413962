"""The whole inspection: its draws, and rows that belong to whom they name."""

import numpy as np
import torch

from inspected import untrained
from recbole_evcf.inspection.inspection import inspect_loaded
from recbole_evcf.inspection.prior import fit_plane


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
