"""The one face of both networks."""

import pytest
import torch

from inspected import untrained
from recbole_evcf.inspection.latent import LatentModel, batches, history_batches
from recbole_evcf.model.prior import Prior


@pytest.mark.parametrize("name", ["Vamp", "GatedHVamp", "GatedMultiVAE"])
def test_logits_at_the_means_are_the_models_scores(name, tiny):
    *_, recommender, _, model, histories, users = untrained(name, tiny)
    history = histories.rows(users)
    scores = recommender.full_sort_predict({recommender.USER_ID: users})
    torch.testing.assert_close(model.logits(*model.means(history)), scores[:, 1:])


@pytest.mark.parametrize("name", ["Vamp", "GatedHVamp", "GatedMultiVAE"])
def test_the_prior_is_the_networks(name, tiny):
    *_, recommender, _, model, histories, users = untrained(name, tiny)
    network = recommender.network.eval()
    encoder = network.encoder_z2 if model.hierarchical else network.encoder
    z = model.means(histories.rows(users))[0]
    torch.testing.assert_close(model.top_log_prior(z), network.prior.log_prob(z, encoder))
    mean = model.top_prior_mean()
    assert mean.shape == (8,)
    assert bool((mean == 0).all()) == (name == "GatedMultiVAE")


def test_levels_come_from_the_top(tiny):
    *_, recommender, _, model, histories, users = untrained("GatedHVamp", tiny)
    history = histories.rows(users)
    z2, z1 = model.means(history)
    z1_then_z2 = recommender.network.latent(history)
    torch.testing.assert_close(torch.cat([z1, z2], 1), z1_then_z2)
    assert model.levels == ("z2", "z1")


@pytest.mark.parametrize(("likelihood", "total"), [("multinomial", 1), ("bernoulli", None)])
def test_probabilities_follow_the_likelihood(likelihood, total, tiny):
    *_, model, histories, users = untrained("Vamp", tiny, likelihood=likelihood)
    logits = model.logits(*model.means(histories.rows(users)))
    expected = (
        logits.exp() / logits.exp().sum(1, keepdim=True) if total else 1 / (1 + (-logits).exp())
    )
    torch.testing.assert_close(model.probabilities(logits), expected)


def test_batches_hold_every_user_once(histories):
    users = torch.tensor([4, 1, 7])
    assert torch.cat(list(batches(users, 2**22))).tolist() == [4, 1, 7]
    assert [len(part) for part in batches(users, 2**22)] == [2, 1]
    dense = torch.cat([batch.dense() for batch in history_batches(histories, users)])
    torch.testing.assert_close(dense, histories.rows(users).dense())


def test_a_prior_of_another_kind_is_refused(tiny):
    *_, recommender, _, _, _, _ = untrained("Vamp", tiny)
    recommender.network.prior = Prior()
    with pytest.raises(ValueError, match="VampPrior or the standard normal prior, no Prior"):
        LatentModel(recommender.network)
