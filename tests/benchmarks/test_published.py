"""The naive formulation against ours, in double precision; the operations against torch's count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import published
from operations import Network, evaluation_batch, training_batch
from recbole_evcf.model.gaussian import StandardNormalPrior, VampPrior
from recbole_evcf.model.vae import OneLevelVAE, Settings, TwoLevelVAE
from recbole_evcf.trainer.trainer import AdamNormGrad

pytestmark = pytest.mark.usefixtures("double")

USERS = torch.tensor([4, 1, 5, 8, 2])


def networks(levels=2, vamp=True, gated=True, widths=(16,)):
    """One of ours, and the published one of the same architecture."""
    torch.manual_seed(0)
    rest = (7, "normal", 0.05, 0.01, 0.3, None, 100)
    settings = Settings(list(widths), 6, 0.0, "multinomial", gated, *rest)
    prior = VampPrior(torch.randn(7, 12) * 0.4 + 0.5) if vamp else StandardNormalPrior()
    network = (OneLevelVAE if levels == 1 else TwoLevelVAE)(settings, 12, prior)
    shape = {"gated": gated, "levels": levels, "n_pseudo_inputs": 7 if vamp else 0}
    model = published.PublishedVAE(12, list(widths), 6, dropout_prob=0.0, **shape)
    return network, model


@pytest.mark.parametrize("widths", [(16,), (16, 10)])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("vamp", [True, False])
@pytest.mark.parametrize("levels", [1, 2])
def test_same_loss_and_gradients(histories, levels, vamp, gated, widths):
    network, model = networks(levels, vamp, gated, widths)
    found = published.compare(model, network, histories.rows(USERS))
    assert found["loss"] < 1e-12
    assert found["gradient"] < 1e-9


@pytest.mark.parametrize("levels", [1, 2])
def test_same_training_steps(histories, levels):
    network, model = networks(levels)
    published.copy_weights(model, network)
    batch = histories.rows(USERS)
    ours, theirs = AdamNormGrad(network.parameters(), lr=0.01), published.make_adam(model, 0.01)
    for seed in range(4):
        torch.manual_seed(seed)
        ours.zero_grad()
        log_likelihood, kl = network.elbo_terms(batch)
        loss = (0.3 * kl - log_likelihood).mean()
        loss.backward()
        ours.step()
        torch.manual_seed(seed)
        their_loss = published.train_batch(model, theirs, batch.dense(), 0.3)
        assert float(loss.detach()) == pytest.approx(their_loss, rel=1e-9)


def _products_in_place(_, left, right, *args, **kwargs) -> int:
    return 2 * left[0] * left[1] * right[1]


# torch's counter knows addmm, but not the one in place.
COUNTER = {"display": False, "custom_mapping": {torch.ops.aten.addmm_: _products_in_place}}


@pytest.mark.parametrize("widths", [(16,), (16, 10), (16, 14, 10)])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("vamp", [True, False])
@pytest.mark.parametrize("levels", [1, 2])
def test_operations_are_those_that_torch_counts(histories, levels, vamp, gated, widths):
    network, _ = networks(levels, vamp, gated, widths)
    batch = histories.rows(USERS)
    n_users, entries = len(USERS), len(batch.row)
    counted = Network(12, widths, 6, gated, levels, 7 if vamp else 0), n_users, entries
    expected, scores = training_batch(*counted), evaluation_batch(*counted)
    with FlopCounterMode(**COUNTER) as counter:
        log_likelihood, kl = network.elbo_terms(batch)
        (kl - log_likelihood).mean().backward()
    # torch counts no sums of rows.
    assert counter.get_total_flops() == 2 * expected.dense
    with FlopCounterMode(**COUNTER) as counter, torch.no_grad():
        network.output(network.last_hidden(batch))
    # Ours computes the log-variances too.
    log_variances = levels * n_users * widths[-1] * 6
    assert counter.get_total_flops() == 2 * (scores.dense + log_variances)
    sums = levels * (2 if gated else 1) * entries * widths[0]
    assert (scores.sparse, expected.sparse) == (sums, 2 * sums)
    assert scores.flop == 2 * (scores.dense + sums)
