"""The whole loss of every network against the formula written out, its gradients, its settings."""

import contextlib

import pytest
import torch

import naive
from recbole_evcf.model.dropout import drop_entries
from recbole_evcf.model.gaussian import StandardNormalPrior, VampPrior
from recbole_evcf.model.vae import OneLevelVAE, Settings, TwoLevelVAE

pytestmark = pytest.mark.usefixtures("double")

USERS = torch.tensor([4, 1, 5, 8, 2])
GOOD = {
    "mlp_hidden_size": [16],
    "latent_dimension": 6,
    "dropout_prob": 0.5,
    "likelihood": "multinomial",
    "gated": True,
    "n_pseudo_inputs": 7,
    "pseudo_inputs_init": "normal",
    "pseudo_inputs_mean": 0.05,
    "pseudo_inputs_std": 0.01,
    "anneal_cap": 0.3,
    "total_anneal_steps": None,
    "warmup_epochs": 100,
    "sampled_softmax": 0,
    "pseudo_input_size": 0,
    "sparse_input_gradient": False,
}
DEPTHS = ([16], [16, 10], [16, 12, 10])


def make(network_class, widths=(16,), gated=True, likelihood="multinomial", vamp=True, dropout=0.0):
    torch.manual_seed(0)
    changes = {"mlp_hidden_size": list(widths), "gated": gated, "likelihood": likelihood}
    settings = Settings(**{**GOOD, **changes, "dropout_prob": dropout})
    prior = VampPrior(torch.randn(7, 12) * 0.4 + 0.5) if vamp else StandardNormalPrior()
    return network_class(settings, 12, prior)


@pytest.mark.parametrize("vamp", [True, False])
@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("widths", DEPTHS)
@pytest.mark.parametrize(
    ("network_class", "formula"), [(OneLevelVAE, naive.one_level), (TwoLevelVAE, naive.two_level)]
)
def test_loss_and_gradients(histories, network_class, formula, widths, gated, likelihood, vamp):
    network = make(network_class, widths, gated, likelihood, vamp)
    batch = histories.rows(USERS)
    parameters = dict(network.named_parameters())

    torch.manual_seed(1)
    log_likelihood, kl = network.elbo_terms(batch)
    ours = torch.autograd.grad((0.3 * kl - log_likelihood).mean(), parameters.values())

    torch.manual_seed(1)
    expected_log_likelihood, expected_kl = formula(network, batch.dense(), gated, likelihood, vamp)
    loss = (0.3 * expected_kl - expected_log_likelihood).mean()
    theirs = torch.autograd.grad(loss, parameters.values())

    torch.testing.assert_close(log_likelihood, expected_log_likelihood, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(kl, expected_kl, rtol=1e-8, atol=1e-8)
    for name, our, their in zip(parameters, ours, theirs):
        torch.testing.assert_close(our, their, rtol=1e-6, atol=1e-9, msg=name)
        assert our.abs().max() > 0, name


def test_published_shapes_of_the_two_level_network():
    shallow, deep = make(TwoLevelVAE, [16]), make(TwoLevelVAE, [16, 10])
    assert shallow.encoder_z1.first.linear.weight.shape == (12 + 6, 16)
    assert shallow.decoder.joint[0].linear.in_features == 2 * 6
    assert deep.encoder_z1.first_x.linear.weight.shape == (12, 16)
    assert deep.encoder_z1.first_z2.linear.in_features == 6
    assert [layer.linear.in_features for layer in deep.encoder_z1.joint] == [2 * 16]
    assert deep.decoder.first_z1[0].linear.out_features == 10
    assert [layer.linear.in_features for layer in deep.decoder.joint] == [2 * 10]
    assert len(deep.prior_z1[0]) == 2


@pytest.mark.parametrize("network_class", [OneLevelVAE, TwoLevelVAE])
def test_scoring_uses_the_means(histories, network_class):
    network = make(network_class, dropout=0.5).eval()
    batch = histories.rows(USERS)
    x = batch.dense() / batch.dense().norm(dim=1, keepdim=True)
    if network_class is OneLevelVAE:
        mean, _ = naive.history_posterior(network.encoder, x, True)
        expected = naive.stack(network.decoder, mean, True)
    else:
        z2, _ = naive.history_posterior(network.encoder_z2, x, True)
        z1, _ = naive.joint_posterior(network.encoder_z1, x, z2, True)
        expected = naive.joint_decoder(network.decoder, z1, z2, True)
    torch.testing.assert_close(network.last_hidden(batch), expected)


def test_each_x_encoder_draws_its_own_dropout(histories, monkeypatch):
    network = make(TwoLevelVAE, dropout=0.5)
    drawn = []

    def recording(x, p):
        dropped = drop_entries(x, p)
        drawn.append(dropped.values)
        return dropped

    monkeypatch.setattr("recbole_evcf.model.vae.drop_entries", recording)
    network.elbo_terms(histories.rows(USERS))
    assert len(drawn) == 2
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("network_class", [OneLevelVAE, TwoLevelVAE])
@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli"])
def test_a_training_step_never_waits_for_the_device(
    histories, network_class, likelihood, monkeypatch
):
    # Tensors on "meta" have no values: whatever would read one, as a GPU is waited for, fails.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    meta = torch.device("meta")
    network = make(network_class, dropout=0.5, likelihood=likelihood).to(meta)
    log_likelihood, kl = network.elbo_terms(histories.to(meta).rows(USERS))
    (kl - log_likelihood).mean().backward()
    assert all(p.grad.shape == p.shape for p in network.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        kl.sum().item()


def test_settings_are_read_and_whole_floats_of_a_tuner_become_whole_numbers():
    settings = Settings.from_config({**GOOD, "n_pseudo_inputs": 7.0})
    assert vars(settings) == GOOD
    assert isinstance(settings.n_pseudo_inputs, int)
