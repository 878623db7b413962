"""Gate openings against equation 7 written out."""

import numpy as np
import torch

from inspected import untrained
from naive import affine, stack
from recbole_evcf.inspection.gates import (
    gate_layers,
    gate_table,
    gate_values,
    gates_by_popularity,
    mean_popularity,
    single_item_histories,
)
from recbole_evcf.inspection.latent import history_batches


def test_gates_are_the_sigmoids_of_every_layer(tiny):
    # Not 16: the naive affine map tells a weight's sides by their lengths.
    *_, model, histories, users = untrained("GatedHVamp", tiny, mlp_hidden_size=[20])
    network = model.network
    x = histories.rows(users).normalized().dense()
    found, extremes = gate_values(model, history_batches(histories, users))
    with torch.no_grad():
        z1, z2 = network.latent(histories.rows(users)).chunk(2, dim=1)
        gates = {
            "q(z2 | x)": affine(network.encoder_z2.first.gate, x),
            "q(z1 | x, z2)": affine(network.encoder_z1.first.gate, torch.cat([x, z2], 1)),
            "p(z1 | z2)": affine(network.prior_z1[0][0].gate, z2),
            "p(x | z1, z2)": affine(network.decoder.joint[0].gate, torch.cat([z1, z2], 1)),
        }
    assert list(found) == list(gates)
    for name, gate in gates.items():
        value = torch.sigmoid(gate)
        np.testing.assert_allclose(found[name], value.mean(1), rtol=1e-5)
        assert np.isclose(extremes["shut"][name], (value < 0.1).double().mean())
        assert np.isclose(extremes["open"][name], (value > 0.9).double().mean())
    assert not any(module._forward_hooks for module in network.modules())


def test_deep_networks_name_each_layer(tiny):
    *_, model, histories, users = untrained("GatedHVamp", tiny, mlp_hidden_size=[16, 12])
    found, _ = gate_values(model, history_batches(histories, users))
    assert list(found) == [
        "q(z2 | x) first",
        "q(z2 | x) rest.0",
        "q(z1 | x, z2) first_x",
        "q(z1 | x, z2) first_z2",
        "q(z1 | x, z2) joint.0",
        "p(z1 | z2) 0.0",
        "p(z1 | z2) 0.1",
        "p(x | z1, z2) first_z1.0",
        "p(x | z1, z2) first_z2.0",
        "p(x | z1, z2) joint.0",
    ]
    encoder, x = model.network.encoder_z2, histories.rows(users).normalized().dense()
    with torch.no_grad():
        second = torch.sigmoid(affine(encoder.rest[0].gate, stack([encoder.first], x, True)))
    np.testing.assert_allclose(found["q(z2 | x) rest.0"], second.mean(1), rtol=1e-5)


def test_a_network_without_gates_has_none(tiny):
    *_, model, _, _ = untrained("HVamp", tiny)
    assert gate_layers(model) == {}


def test_single_items_stand_alone_and_in_order(monkeypatch):
    monkeypatch.setattr("recbole_evcf.inspection.latent.BATCH_BYTES", 8 * 9 * 4)
    parts = list(single_item_histories(9, torch.device("cpu")))
    assert len(parts) == 3
    dense = torch.cat([part.normalized().dense() for part in parts])
    torch.testing.assert_close(dense, torch.eye(9))


def test_by_popularity(tiny):
    *_, model, histories, ids = untrained("GatedMultiVAE", tiny)
    users, extremes = gate_values(model, history_batches(histories, ids))
    items, _ = gate_values(model, single_item_histories(histories.shape[1], torch.device("cpu")))
    popularity = np.arange(histories.shape[1]) % 7
    of_users = mean_popularity(histories, ids, popularity)
    table = gates_by_popularity(users, items, of_users, popularity, 3)
    dense = histories.rows(ids).dense().numpy()
    np.testing.assert_allclose(of_users, (dense @ popularity) / dense.sum(1))
    for along, grouped, values in ((of_users, "users", users), (popularity, "items", items)):
        for row in table[table["grouped"] == grouped].to_dict("records"):
            inside = (along >= row["from"] - 1e-6) & (along <= row["to"] + 1e-6)
            assert row["count"] == inside.sum()
            assert np.isclose(row["mean"], values[row["layer"]][inside].mean())
        counts = table[table["grouped"] == grouped].groupby("layer")["count"].sum()
        assert (counts == len(along)).all()
    summary = gate_table(users, extremes, items)
    np.testing.assert_allclose(summary["mean"], users.mean())
    np.testing.assert_allclose(summary["single_item_mean"], items.mean())
