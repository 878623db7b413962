"""The models as RecBole recommenders: scores by RecBole's ids."""

import pytest
import torch
from recbole.data.interaction import Interaction

from build import build

MODELS = ["Vamp", "HVamp", "GatedMultiVAE", "GatedVamp", "GatedHVamp"]


@pytest.mark.parametrize("name", MODELS)
def test_scores(tiny, name):
    _, (train, _, _), model, _ = build(name, "tiny", tiny)
    model.eval()
    users = torch.tensor([3, 1, 7])
    scores = model.full_sort_predict(Interaction({"user_id": users}))
    assert scores.shape == (3, train._dataset.item_num)
    assert (scores[:, 0] == -torch.inf).all()
    hidden = model.network.last_hidden(model._histories.rows(users))
    torch.testing.assert_close(scores[:, 1:], model.network.output(hidden))

    pairs = Interaction(
        {
            "user_id": torch.tensor([7, 3, 7]),
            "item_id": torch.tensor([1, 5, train._dataset.item_num - 1]),
        }
    )
    expected = torch.stack([scores[2, 1], scores[0, 5], scores[2, -1]])
    torch.testing.assert_close(model.predict(pairs), expected)


def test_the_input_is_the_training_part_only(tiny):
    _, (train, _, _), model, _ = build("Vamp", "tiny", tiny)
    dense = torch.zeros(train._dataset.user_num, train._dataset.item_num)
    feat = train._dataset.inter_feat
    dense[feat["user_id"], feat["item_id"]] = 1
    torch.testing.assert_close(
        model._histories.rows(torch.arange(len(dense))).dense(), dense[:, 1:]
    )


def test_loss_parts_and_weight(tiny):
    _, (train, _, _), model, _ = build("GatedHVamp", "tiny", {**tiny, "total_anneal_steps": 10})
    batch = next(iter(train))
    torch.manual_seed(0)
    reconstruction, kl = model.loss_terms(batch)
    torch.manual_seed(0)
    parts = model.calculate_loss(batch)
    torch.testing.assert_close(parts[0], reconstruction)
    torch.testing.assert_close(parts[1], 0.1 * kl)


@pytest.mark.parametrize("k", [7, 150])
def test_pseudo_inputs_from_data_are_training_histories(tiny, k):
    settings = {
        **tiny,
        "pseudo_inputs_init": "data",
        "pseudo_inputs_std": 0.001,
        "n_pseudo_inputs": k,
    }
    _, _, model, _ = build("Vamp", "tiny", settings)
    start = model.network.prior.pseudo_inputs.detach()
    assert start.shape == (k, 40)
    users = model._histories.lengths.nonzero().squeeze(1)
    histories = model._histories.rows(users).dense()
    distance = torch.cdist(start, histories)
    assert distance.min(1).values.max() < 0.05
    drawn = distance.argmin(1)
    # All different while there are users enough.
    assert len(drawn.unique()) == min(k, len(users))


def test_gated_false_makes_the_multi_vae_baseline_ungated(tiny):
    _, _, model, _ = build("GatedMultiVAE", "tiny", {**tiny, "gated": False})
    assert not any("gate" in name for name, _ in model.named_parameters())
    assert not any("pseudo" in name for name, _ in model.named_parameters())
