"""Layers against dense double-precision formulas."""

import math

import pytest
import torch

from recbole_evcf.model.dropout import drop_entries
from recbole_evcf.model.layers import GaussianHead, HistoryLinear, Linear, OutputLayer

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def batch(histories):
    torch.manual_seed(1)
    return drop_entries(histories.rows(torch.tensor([4, 1, 3, 8, 2])).normalized(), 0.5)


@pytest.mark.parametrize("n_dense", [0, 3])
@pytest.mark.parametrize("sparse", [True, False, "gradient"])
def test_products_and_gradients_equal_the_dense_ones(batch, sparse, n_dense):
    layer = HistoryLinear(12, 7, n_dense)
    layer.sparse_gradient = sparse == "gradient"
    upstream = torch.randn(5, 7)
    x = batch if sparse else batch.dense().requires_grad_()
    z = torch.randn(5, n_dense, requires_grad=True)
    result = layer(x, z) if n_dense else layer(x)
    result.backward(upstream)
    joined = torch.cat([batch.dense(), z.detach()], 1)
    torch.testing.assert_close(result, joined @ layer.weight + layer.bias)
    gradient = layer.weight.grad
    if layer.sparse_gradient:
        rows = gradient._indices()[0]
        assert rows.tolist() == [*batch.column.unique(), *range(12, 12 + n_dense)]
        gradient = gradient.to_dense()
    torch.testing.assert_close(gradient, joined.T @ upstream)
    of_x, of_z = (upstream @ layer.weight.T).split([12, n_dense], 1)
    if not sparse:
        torch.testing.assert_close(x.grad, of_x)
    if n_dense:
        torch.testing.assert_close(z.grad, of_z)


@pytest.mark.parametrize("linear", [lambda: Linear(400, 900), lambda: HistoryLinear(300, 900, 100)])
def test_weights_have_variance_two_over_fan_in(linear):
    torch.manual_seed(0)
    weight = linear().weight
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.01)


def test_log_variance_is_clamped():
    head = GaussianHead(2, 3)
    h = torch.tensor([[1e4, 1e4], [-1e4, -1e4]])
    log_variance = head(h).log_variance
    assert log_variance.min() == -12
    assert log_variance.max() == 4


@pytest.mark.parametrize(("users", "items"), [(3, 5), (2, 1), (100, 100)])
def test_output_layer_and_its_scores_are_one_affine_map(users, items, monkeypatch):
    monkeypatch.setattr(OutputLayer, "USERS", users)
    monkeypatch.setattr(OutputLayer, "ITEMS", items)
    layer, h = OutputLayer(4, 11), torch.randn(7, 4, requires_grad=True)
    expected = h @ layer.weight.T + layer.bias
    upstream = torch.randn(7, 11)
    result = layer(h)
    torch.testing.assert_close(result, expected)
    parameters = [h, layer.weight, layer.bias]
    gradients = torch.autograd.grad(result, parameters, upstream)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, parameters, upstream)):
        torch.testing.assert_close(ours, theirs)
    scores = torch.full((7, 13), 9.0)
    with torch.no_grad():
        layer.score(h, scores[:, 1:12])
    torch.testing.assert_close(scores[:, 1:12], expected.detach())
    assert (scores[:, [0, 12]] == 9).all()
