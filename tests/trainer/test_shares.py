"""What each of several processes updates; tests/test_distributed.py trains with two."""

import pytest

from build import build
from recbole_evcf import distributed
from recbole_evcf.model.gaussian import VampPrior
from recbole_evcf.trainer.shares import Shares


class OfAll(VampPrior):
    """It knows nothing of several processes."""

    def components(self, posterior):
        return posterior(self.pseudo_inputs)


def test_a_prior_that_would_not_be_trained_is_refused(tiny, monkeypatch):
    _, loaders, network, _ = build("Vamp", "tiny", tiny)
    network.network.prior.__class__ = OfAll
    monkeypatch.setattr(distributed, "_group", distributed._Group(0, 2))
    shares = Shares(network)

    def step():
        with shares.training():
            sum(network.loss_terms(next(iter(loaders[0])))).backward()
            shares.sum_gradients()

    with pytest.raises(ValueError, match=r"^OfAll reads pseudo_inputs, .* leave out nproc\.$"):
        step()
