"""A hidden layer of your own: does a gate need weights of its own?"""

import torch
from torch import nn

from recbole_evcf import register_model
from recbole_evcf.model.models import HVamp
from recbole_evcf.quick_start import run_recbole


class SelfGatedLayer(nn.Module):
    """``a * sigmoid(a)`` with a = x W + b: the gate of equation 7 reads what it lets through.

    (SiLU, or Swish: Ramachandran et al. 2017.) It has half the weights of a gated layer.

    Args:
        linear: makes an affine map, for histories or for dense input as the place demands.
    """

    def __init__(self, linear):
        super().__init__()
        self.linear = linear()

    def forward(self, *x):
        """Whatever the affine map takes -> (rows, width)."""
        a = self.linear(*x)
        return a * torch.sigmoid(a)


class SelfGatedHVamp(HVamp):
    """H+Vamp with that layer in every encoder, the decoder and p(z1 | z2)."""

    layer_class = SelfGatedLayer


register_model(SelfGatedHVamp)

if __name__ == "__main__":
    small = {"mlp_hidden_size": [100], "latent_dimension": 50, "n_pseudo_inputs": 50}
    settings = {**small, "epochs": 20, "learning_rate": 0.005, "warmup_epochs": 5}
    result = run_recbole("SelfGatedHVamp", "ml-100k", ["protocol/strong_generalization"], settings)
    print("NDCG@100 of unseen users:", result["test_result"]["ndcg@100"])
