"""Components against their formulas written out, the plane and its densities against SciPy's."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from inspected import untrained
from recbole_evcf.inspection.prior import (
    component_items,
    component_table,
    density_table,
    effective_number,
    fit_plane,
    responsibilities,
)
from recbole_evcf.model.gaussian import Gaussian


def gaussians(n, latent, seed):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, n, latent, generator=generator)
    return Gaussian(mean, log_variance)


def torch_normal(gaussian, row):
    return torch.distributions.Normal(gaussian.mean[row], (0.5 * gaussian.log_variance[row]).exp())


def test_a_user_belongs_to_the_component_of_the_smallest_divergence():
    users, components = gaussians(20, 3, 1), gaussians(5, 3, 2)
    divergence = torch.tensor(
        [
            [
                torch.distributions.kl_divergence(
                    torch_normal(users, u), torch_normal(components, k)
                ).sum()
                for k in range(5)
            ]
            for u in range(20)
        ]
    )
    responsibility = torch.exp(-divergence) / torch.exp(-divergence).sum(1, keepdim=True)
    certainty, best, mean = responsibilities(users, components)
    assert best.tolist() == divergence.argmin(1).tolist()
    np.testing.assert_allclose(certainty, responsibility.max(1).values, rtol=1e-4)
    np.testing.assert_allclose(mean, responsibility.mean(0), rtol=1e-4)


def test_wide_and_narrow_components_are_told_apart_by_the_whole_posterior():
    # At the mean itself the narrow component is the denser one.
    user = Gaussian(torch.zeros(1, 1), torch.zeros(1, 1))
    components = Gaussian(torch.zeros(2, 1), torch.tensor([[0.0], [-4.0]]))
    assert responsibilities(user, components)[1].tolist() == [0]


def test_parts_of_the_users_give_what_all_give(monkeypatch):
    users, components = gaussians(20, 3, 1), gaussians(5, 3, 2)
    whole = responsibilities(users, components)
    monkeypatch.setattr("recbole_evcf.inspection.latent.BATCH_BYTES", 8 * 5 * 3)
    for part, all_at_once in zip(responsibilities(users, components), whole):
        np.testing.assert_allclose(part, all_at_once)


@pytest.mark.parametrize(
    ("weights", "number"), [([0.25] * 4, 4), ([1, 0, 0], 1), ([0.5, 0.5, 0], 2)]
)
def test_effective_number(weights, number):
    assert effective_number(np.array(weights, dtype=float)) == pytest.approx(number)


def test_table_orders_by_users():
    users, components = gaussians(50, 3, 1), gaussians(6, 3, 2)
    _, best, mean = responsibilities(users, components)
    table = component_table(components, best, mean)
    assert table["users"].is_monotonic_decreasing
    assert sorted(table["component"]) == list(range(6))
    assert table["users"].sum() == 50
    for row in table.itertuples():
        assert row.users == (best == row.component).sum()
        spread = (0.5 * components.log_variance[row.component]).exp().mean()
        assert row.spread == pytest.approx(float(spread), rel=1e-5)


@pytest.mark.parametrize("name", ["Vamp", "GatedHVamp"])
def test_top_items(name, tiny):
    *_, model, histories, _ = untrained(name, tiny)
    average = np.full(histories.shape[1], 1 / histories.shape[1])
    average[0] *= 3
    tokens = np.array([f"token{column}" for column in range(histories.shape[1])], dtype=object)
    with torch.no_grad():
        table = component_items(model, average, tokens, 5)
    assert len(table) == 7 * 2 * 5
    network = model.network
    for k in range(7):
        pseudo_input = network.prior.pseudo_inputs[k].clamp(0, 1)[None]
        with torch.no_grad():
            if model.hierarchical:
                z2 = network.encoder_z2(pseudo_input).mean
                hidden = network.decoder(network.prior_z1(z2).mean, z2)
            else:
                hidden = network.decoder(network.encoder(pseudo_input).mean)
            p = torch.softmax(network.output(hidden), 1)[0].double().numpy()
        scores = {"probability": p, "distinction": p * np.log(p / average)}
        for by, score in scores.items():
            part = table[(table["component"] == k) & (table["by"] == by)]
            best = np.argsort(-score)[:5]
            assert part["item"].tolist() == tokens[best].tolist()
            np.testing.assert_allclose(part["probability"], p[best], rtol=1e-5)
            np.testing.assert_allclose(part["lift"], p[best] / average[best], rtol=1e-5)
            np.testing.assert_allclose(part["pseudo_input"], pseudo_input[0].detach()[best])


def test_impossible_items_are_nobodys_top(tiny):
    *_, model, histories, _ = untrained("Vamp", tiny)
    with torch.no_grad():
        model.network.output.bias[3] = -500
    average = np.full(histories.shape[1], 1 / histories.shape[1])
    average[3] = 0
    with torch.no_grad():
        table = component_items(model, average, np.arange(histories.shape[1]), 5)
    assert not (table["item"] == 3).any()
    assert np.isfinite(table[["probability", "lift"]]).all().all()


RNG = np.random.default_rng(4)
POINTS = RNG.normal(size=(200, 6)) @ np.diag([4, 3, 1, 1, 0.5, 0.1]) + 2


def mixture_of(mean, variance):
    return Gaussian(torch.from_numpy(mean), torch.from_numpy(variance).log())


def test_the_plane_is_that_of_principal_components():
    plane, pca = fit_plane(POINTS), PCA(2).fit(POINTS)
    np.testing.assert_allclose(np.abs(plane.components_), np.abs(pca.components_), atol=1e-10)
    np.testing.assert_allclose(plane.explained_variance_ratio_, pca.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(plane.transform(POINTS)), np.abs(pca.transform(POINTS)))


def test_axes_point_where_their_largest_entry_is_positive():
    for _ in range(20):
        plane = fit_plane(RNG.normal(size=(9, 5)))
        assert (plane.components_[[0, 1], np.abs(plane.components_).argmax(1)] > 0).all()


def test_densities_are_those_of_projected_gaussians():
    plane = fit_plane(POINTS)
    mixture = mixture_of(POINTS[:5], RNG.uniform(0.5, 2, size=(5, 6)))
    narrow = mixture_of(np.zeros((1, 6)), np.ones((1, 6)))
    table = density_table(plane, {"prior": mixture, "normal": narrow})
    grid = table[["pc1", "pc2"]].to_numpy()
    for name, given in (("prior", mixture), ("normal", narrow)):
        expected = np.mean(
            [
                multivariate_normal(
                    plane.components_ @ (mean - plane.mean_),
                    plane.components_ @ np.diag(variance) @ plane.components_.T,
                ).pdf(grid)
                for mean, variance in zip(given.mean.numpy(), given.log_variance.exp().numpy())
            ],
            axis=0,
        )
        np.testing.assert_allclose(table[name], expected, rtol=1e-9, atol=1e-300)


def test_the_grid_holds_nearly_all_of_every_mixture():
    plane = fit_plane(POINTS)
    wide = mixture_of(POINTS, np.full(POINTS.shape, 0.3))
    table = density_table(
        plane, {"posterior": wide, "prior": mixture_of(POINTS[:2], np.full((2, 6), 0.3))}
    )
    step = [np.diff(np.unique(table[axis])).mean() for axis in ("pc1", "pc2")]
    for name in ("posterior", "prior"):
        assert 0.98 < table[name].sum() * np.prod(step) < 1.001
