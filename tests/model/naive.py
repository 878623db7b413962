"""The paper's losses written out: dense input, batch x K x latent mixture, no dropout.

An independent reference for the fast formulation. It reads the weights of a network of ours but
computes with none of its modules.
"""

import math

import torch


def affine(linear, x):
    weight = linear.weight if linear.weight.shape[0] == x.shape[1] else linear.weight.T
    assert weight.shape[0] == x.shape[1]
    return x @ weight + linear.bias


def hidden(layer, x, gated):
    if gated:
        return affine(layer.linear, x) * torch.sigmoid(affine(layer.gate, x))
    return torch.tanh(affine(layer.linear, x))


def stack(layers, x, gated):
    for layer in layers:
        x = hidden(layer, x, gated)
    return x


def head(module, h):
    return affine(module.mean, h), affine(module.log_variance, h).clamp(-12, 4)


def log_normal(z, mean, log_variance):
    squares = (z - mean) ** 2 / torch.exp(log_variance)
    return (-0.5 * (math.log(2 * math.pi) + log_variance + squares)).sum(-1)


def history_posterior(encoder, x, gated):
    return head(encoder.head, stack([encoder.first, *encoder.rest], x, gated))


def log_prior(network, encoder, z, gated, vamp):
    if not vamp:
        return log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
    u = network.prior.pseudo_inputs.clamp(0, 1)
    mean, log_variance = history_posterior(encoder, u, gated)
    each = log_normal(z[:, None], mean[None], log_variance[None])
    return torch.log(torch.exp(each - each.max()).mean(1)) + each.max()


def log_likelihood(logits, x, likelihood):
    if likelihood == "multinomial":
        return (x * torch.log(torch.softmax(logits, 1))).sum(1)
    p = torch.sigmoid(logits)
    return (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1)


def one_level(network, x, gated, likelihood, vamp):
    """(log-likelihood, KL estimate) of each row of the dense binary ``x``."""
    normalised = x / x.norm(dim=1, keepdim=True)
    mean, log_variance = history_posterior(network.encoder, normalised, gated)
    z = mean + torch.randn(mean.shape) * torch.exp(0.5 * log_variance)
    logits = affine(network.output, stack(network.decoder, z, gated))
    kl = log_normal(z, mean, log_variance)
    kl = kl - log_prior(network, network.encoder, z, gated, vamp)
    return log_likelihood(logits, x, likelihood), kl


def two_level(network, x, gated, likelihood, vamp):
    """(log-likelihood, KL estimate) of each row of the dense binary ``x``."""
    normalised = x / x.norm(dim=1, keepdim=True)
    mean2, log_variance2 = history_posterior(network.encoder_z2, normalised, gated)
    z2 = mean2 + torch.randn(mean2.shape) * torch.exp(0.5 * log_variance2)
    mean1, log_variance1 = joint_posterior(network.encoder_z1, normalised, z2, gated)
    z1 = mean1 + torch.randn(mean1.shape) * torch.exp(0.5 * log_variance1)
    prior_layers, prior_head = network.prior_z1
    prior_mean, prior_log_variance = head(prior_head, stack(prior_layers, z2, gated))
    logits = affine(network.output, joint_decoder(network.decoder, z1, z2, gated))
    kl = log_normal(z1, mean1, log_variance1) + log_normal(z2, mean2, log_variance2)
    kl = kl - log_normal(z1, prior_mean, prior_log_variance)
    kl = kl - log_prior(network, network.encoder_z2, z2, gated, vamp)
    return log_likelihood(logits, x, likelihood), kl


def joint_posterior(encoder, x, z2, gated):
    if hasattr(encoder, "first"):
        h = hidden(encoder.first, torch.cat([x, z2], 1), gated)
    else:
        h = torch.cat([hidden(encoder.first_x, x, gated), hidden(encoder.first_z2, z2, gated)], 1)
        h = stack(encoder.joint, h, gated)
    return head(encoder.head, h)


def joint_decoder(decoder, z1, z2, gated):
    if hasattr(decoder, "first_z1"):
        z1, z2 = stack(decoder.first_z1, z1, gated), stack(decoder.first_z2, z2, gated)
    return stack(decoder.joint, torch.cat([z1, z2], 1), gated)
