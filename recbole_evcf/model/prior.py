"""Priors over the latent variables: standard normal, and the VampPrior (equation 4)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from recbole_evcf.model.gaussian import LOG_2PI, Gaussian, mixture_log_prob

__all__ = ["Prior", "StandardNormalPrior", "VampPrior"]

Posterior = Callable[[Tensor], Gaussian]


class Prior(nn.Module):
    """p(z), or p(z2) of two levels. A subclass gives :meth:`log_prob`."""

    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        """log p(z) of each row, (batch, latent) -> (batch,); ``posterior`` is the encoder q(z | x),
        clamp and dropout included, on rows of items."""
        raise NotImplementedError

    def components(self, posterior: Posterior) -> Gaussian | None:
        """Of a uniform mixture of Gaussians its components, (K, latent); None of another prior,
        for which z = 0 is used to recommend to a person without history."""
        return None


class StandardNormalPrior(Prior):
    """N(0, I)."""

    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        return -0.5 * (z.square() + LOG_2PI).sum(-1)


class VampPrior(Prior):
    """The mixture of the posteriors of K learned pseudo-inputs (Tomczak & Welling 2018),

    .. math:: p(z) = \\frac{1}{K} \\sum_{k=1}^K q(z | u_k).

    Args:
        pseudo_inputs: the u_k at the start, (K, items). The encoder clamps them to [0, 1].
    """

    def __init__(self, pseudo_inputs: Tensor):
        super().__init__()
        # As (items, K), the faster order for their gradient (layers.py).
        self.by_item = nn.Parameter(pseudo_inputs.T.contiguous())

    @property
    def pseudo_inputs(self) -> Tensor:
        """The u_k as they are learned, unclamped, (K, items)."""
        return self.by_item.T

    def components(self, posterior: Posterior) -> Gaussian:
        """The K posteriors q(z | u_k): mean and log-variance (K, latent)."""
        return posterior(self.pseudo_inputs)

    def log_prob(self, z: Tensor, posterior: Posterior) -> Tensor:
        return mixture_log_prob(z, self.components(posterior))
