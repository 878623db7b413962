"""The aggregated posterior and the prior in two dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["Mixture", "Plane", "density_table", "fit_plane"]

# Points of the grid along each axis, and standard deviations of the drawn range beyond the mean.
GRID, REACH = 80, 3.0


@dataclass(frozen=True)
class Mixture:
    """Equally weighted diagonal Gaussians: mean and variance, (components, latent)."""

    mean: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Plane:
    """The first two principal components of the users' posterior means.

    Attributes:
        centre: the mean, (latent,).
        axes: unit vectors, (2, latent).
        explained: shares of the variance, (2,).
    """

    centre: np.ndarray
    axes: np.ndarray
    explained: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points, (points, latent) -> (points, 2)."""
        return (points - self.centre) @ self.axes.T

    def covariance(self, variance: np.ndarray) -> np.ndarray:
        """Covariances in the plane of diagonal ones, (n, latent) -> (n, 2, 2)."""
        return np.einsum("al,nl,bl->nab", self.axes, variance, self.axes)


def fit_plane(means: np.ndarray) -> Plane:
    """PCA by singular value decomposition of centred points, (points, at least 2).

    The sign of an axis is chosen so that its largest entry is positive.
    """
    centre = means.mean(0)
    _, singular, right = np.linalg.svd(means - centre, full_matrices=False)
    axes = right[:2]
    largest = np.abs(axes).argmax(1)
    axes = axes * np.where(axes[[0, 1], largest] < 0, -1, 1)[:, None]
    power = singular**2
    return Plane(centre, axes, power[:2] / max(power.sum(), np.finfo(float).tiny))


def density_table(plane: Plane, mixtures: dict[str, Mixture]) -> pd.DataFrame:
    """The exact densities of mixtures of Gaussians, projected into the plane, on a common grid.

    A diagonal Gaussian of the latent space is a Gaussian in the plane: nothing is drawn.

    Args:
        plane: where.
        mixtures: by the name of their column.

    Returns:
        columns ``pc1``, ``pc2`` and one per mixture; the first axis runs slowest.
    """
    projected = {
        name: (plane.project(mixture.mean), plane.covariance(mixture.variance))
        for name, mixture in mixtures.items()
    }
    axes = [_range(axis, projected.values()) for axis in (0, 1)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    densities = {name: _density(grid, *pair) for name, pair in projected.items()}
    return pd.DataFrame({"pc1": grid[:, 0], "pc2": grid[:, 1], **densities})


def _range(axis: int, projected) -> np.ndarray:
    """Where nearly all of every mixture lies along an axis."""
    lows, highs = [], []
    for mean, covariance in projected:
        centres, spread = mean[:, axis], np.sqrt(covariance[:, axis, axis])
        total = math.sqrt(centres.var() + (spread**2).mean())
        lows.append(centres.mean() - REACH * total)
        highs.append(centres.mean() + REACH * total)
    return np.linspace(min(lows), max(highs), GRID)


def _density(grid: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Mean over components of the Gaussian density at each grid point, (points,)."""
    precision = np.linalg.inv(covariance)
    scale = 1 / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    total = np.zeros(len(grid))
    # Chunks of components bound the matrix of grid points x components.
    size = 512
    for start in range(0, len(mean), size):
        part = slice(start, start + size)
        x, y = (grid[:, axis, None] - mean[part, axis] for axis in (0, 1))
        inverse = precision[part]
        squares = inverse[:, 0, 0] * x**2 + inverse[:, 1, 1] * y**2 + 2 * inverse[:, 0, 1] * x * y
        total += np.exp(-0.5 * squares) @ scale[part]
    return total / len(mean)
