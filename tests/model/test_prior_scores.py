"""The prior's scores are the log of the items' mean probability over its components."""

import numpy as np
import pytest
import torch

from build import build
from recbole_evcf.model.vae import prior_scores


@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli"])
@pytest.mark.parametrize("model", ["GatedHVamp", "HVamp", "Vamp", "GatedMultiVAE"])
def test_the_mean_probability_over_the_components(model, likelihood, tiny, monkeypatch):
    settings = {**tiny, "likelihood": likelihood, "mlp_hidden_size": [16, 12]}
    network = build(model, "tiny", settings)[2].eval().network
    two = "HVamp" in model
    encoder = network.encoder_z2 if two else network.encoder
    means = torch.zeros(1, 8)
    if model != "GatedMultiVAE":
        # Each pseudo-input by itself.
        means = [encoder(u[None].clamp(0, 1)).mean[0] for u in network.prior.pseudo_inputs]
        assert len(means) == 7
    probability = np.zeros(40)
    with torch.no_grad():
        for z in means:
            z = z[None]
            hidden = network.decoder(network.prior_z1(z).mean, z) if two else network.decoder(z)
            logits = network.output(hidden)[0].double()
            p = logits.softmax(0) if likelihood == "multinomial" else logits.sigmoid()
            probability += p.numpy() / len(means)
    np.testing.assert_allclose(prior_scores(network), np.log(probability), rtol=1e-4)
    # Not all components at once.
    monkeypatch.setattr("recbole_evcf.model.vae.SCORES_AT_ONCE", 3 * 40)
    np.testing.assert_allclose(prior_scores(network), np.log(probability), rtol=1e-4)
