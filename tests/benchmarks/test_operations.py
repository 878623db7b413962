"""The formulas against torch's own count of the products of our networks."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from operations import Network, evaluation_batch, training_batch
from recbole_evcf.model.gaussian import StandardNormalPrior, VampPrior
from recbole_evcf.model.vae import OneLevelVAE, Settings, TwoLevelVAE


def _products_in_place(_, left, right, *args, **kwargs) -> int:
    return 2 * left[0] * left[1] * right[1]


# torch's counter knows addmm, but not the one in place.
IN_PLACE = {torch.ops.aten.addmm_: _products_in_place}
USERS = torch.tensor([4, 1, 5, 8, 2])


@pytest.mark.parametrize("widths", [(16,), (16, 10), (16, 14, 10)])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("k", [0, 7])
@pytest.mark.parametrize("levels", [1, 2])
def test_counts(histories, levels, k, gated, widths):
    settings = Settings(
        list(widths), 6, 0.0, "multinomial", gated, 7, "normal", 0.05, 0.01, 0.3, None, 100
    )
    prior = VampPrior(torch.rand(k, 12)) if k else StandardNormalPrior()
    network = (OneLevelVAE if levels == 1 else TwoLevelVAE)(settings, 12, prior)
    batch = histories.rows(USERS)
    counted = Network(12, widths, 6, gated, levels, k)

    expected = training_batch(counted, len(USERS), len(batch.row))
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        log_likelihood, kl = network.elbo_terms(batch)
        (kl - log_likelihood).mean().backward()
    # torch counts no sums of rows.
    assert counter.get_total_flops() == 2 * expected.dense

    scores = evaluation_batch(counted, len(USERS), len(batch.row))
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter, torch.no_grad():
        network.output(network.last_hidden(batch))
    # Ours computes the log-variances too.
    log_variances = levels * len(USERS) * widths[-1] * 6
    assert counter.get_total_flops() == 2 * (scores.dense + log_variances)
    sums = levels * (2 if gated else 1) * len(batch.row) * widths[0]
    assert (scores.sparse, expected.sparse) == (sums, 2 * sums)
    assert scores.flop == 2 * (scores.dense + sums)
