"""A prior of your own: a mixture of K Gaussians with means and variances of its own."""

import torch
from torch import nn

from recbole_evcf import register_model
from recbole_evcf.model.gaussian import Gaussian, Prior, mixture_log_prob
from recbole_evcf.model.models import Vamp
from recbole_evcf.quick_start import run_recbole


class MixtureOfGaussians(Prior):
    """p(z) = 1/K sum_k N(z; mu_k, diag exp(s_k)), what Tomczak & Welling (2018) compare with.

    Args:
        k: number K of components.
        latent_dimension: width of z.
    """

    def __init__(self, k, latent_dimension):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(k, latent_dimension))
        self.log_variance = nn.Parameter(torch.zeros(k, latent_dimension))

    def components(self, posterior):
        """The K Gaussians; new users without history are recommended to from their means."""
        return Gaussian(self.mean, self.log_variance)

    def log_prob(self, z, posterior):
        """log p(z) of each row, (batch, latent) -> (batch,)."""
        return mixture_log_prob(z, self.components(posterior))


class MixtureVAE(Vamp):
    """Vamp with that prior: the same number of components, none of them a pseudo-input's."""

    def make_prior(self, settings, dataset):
        return MixtureOfGaussians(settings.n_pseudo_inputs, settings.latent_dimension)


register_model(MixtureVAE)

if __name__ == "__main__":
    small = {"mlp_hidden_size": [100], "latent_dimension": 50, "n_pseudo_inputs": 50}
    settings = {**small, "epochs": 20, "learning_rate": 0.005, "warmup_epochs": 5}
    result = run_recbole("MixtureVAE", "ml-100k", ["protocol/strong_generalization"], settings)
    print("NDCG@100 of unseen users:", result["test_result"]["ndcg@100"])
