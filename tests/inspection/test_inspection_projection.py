"""The plane against scikit-learn's PCA, the densities against SciPy's."""

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from recbole_evcf.inspection.projection import Mixture, density_table, fit_plane

RNG = np.random.default_rng(4)
POINTS = RNG.normal(size=(200, 6)) @ np.diag([4, 3, 1, 1, 0.5, 0.1]) + 2


def test_the_plane_is_that_of_principal_components():
    plane, pca = fit_plane(POINTS), PCA(2).fit(POINTS)
    np.testing.assert_allclose(np.abs(plane.axes), np.abs(pca.components_), atol=1e-10)
    np.testing.assert_allclose(plane.explained, pca.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(plane.project(POINTS)), np.abs(pca.transform(POINTS)))


def test_axes_point_where_their_largest_entry_is_positive():
    for _ in range(20):
        plane = fit_plane(RNG.normal(size=(9, 5)))
        assert (plane.axes[[0, 1], np.abs(plane.axes).argmax(1)] > 0).all()


def test_densities_are_those_of_projected_gaussians():
    plane = fit_plane(POINTS)
    mixture = Mixture(POINTS[:5], RNG.uniform(0.5, 2, size=(5, 6)))
    narrow = Mixture(np.zeros((1, 6)), np.ones((1, 6)))
    table = density_table(plane, {"prior": mixture, "normal": narrow})
    grid = table[["pc1", "pc2"]].to_numpy()
    for name, given in (("prior", mixture), ("normal", narrow)):
        expected = np.mean(
            [
                multivariate_normal(
                    plane.axes @ (mean - plane.centre),
                    plane.axes @ np.diag(variance) @ plane.axes.T,
                ).pdf(grid)
                for mean, variance in zip(given.mean, given.variance)
            ],
            axis=0,
        )
        np.testing.assert_allclose(table[name], expected, rtol=1e-9, atol=1e-300)


def test_the_grid_holds_nearly_all_of_every_mixture():
    plane = fit_plane(POINTS)
    wide = Mixture(POINTS, np.full(POINTS.shape, 0.3))
    table = density_table(
        plane, {"posterior": wide, "prior": Mixture(POINTS[:2], wide.variance[:2])}
    )
    step = [np.diff(np.unique(table[axis])).mean() for axis in ("pc1", "pc2")]
    for name in ("posterior", "prior"):
        assert 0.98 < table[name].sum() * np.prod(step) < 1.001
