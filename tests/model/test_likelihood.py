"""Likelihoods and their hand-written gradients against torch.distributions."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Multinomial as TorchMultinomial

from recbole_evcf.model import likelihood
from recbole_evcf.model.likelihood import LIKELIHOODS, Bernoulli, Multinomial

pytestmark = pytest.mark.usefixtures("double")

USERS = torch.tensor([4, 1, 3, 8, 2])


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return (torch.randn(5, 12) * 3).requires_grad_()


def test_multinomial(histories, logits):
    batch = histories.rows(USERS)
    x = batch.dense()
    result = Multinomial.log_prob(logits, batch)
    for row in range(5):
        n = int(x[row].sum())
        full = TorchMultinomial(n, logits=logits[row]).log_prob(x[row])
        # torch counts the orderings of distinct items: n! of them.
        orderings = torch.lgamma(torch.tensor(n + 1.0))
        torch.testing.assert_close(result[row], full - orderings)


def test_bernoulli(histories, logits):
    batch = histories.rows(USERS)
    expected = TorchBernoulli(logits=logits).log_prob(batch.dense()).sum(1)
    torch.testing.assert_close(Bernoulli.log_prob(logits, batch), expected)


@pytest.mark.parametrize("size", [1, 7, 30, 10**6])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_size_of_the_blocks_does_not_matter(
    histories, logits, name, transposed, size, monkeypatch
):
    batch, upstream = histories.rows(USERS), torch.rand(len(USERS))
    x = batch.dense()
    if name == "multinomial":
        expected = (x * logits.log_softmax(1)).sum(1)
    else:
        expected = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    expected_gradient = torch.autograd.grad(expected, logits, upstream)[0]
    monkeypatch.setattr(likelihood, "BLOCK", size)
    start = logits.detach().clone()
    start = (start.T.contiguous().T if transposed else start).requires_grad_()
    result = LIKELIHOODS[name].log_prob(start, batch)
    gradient = torch.autograd.grad(result, start, upstream)[0]
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_gradient_takes_the_memory_of_the_logits(histories, logits, name):
    start = logits.detach().clone().requires_grad_()
    result = LIKELIHOODS[name].log_prob(start, histories.rows(USERS)).sum()
    assert torch.autograd.grad(result, start)[0].data_ptr() == start.data_ptr()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_half_precision_logits_are_summed_in_single(histories, logits, name):
    batch = histories.rows(USERS)
    half = logits.detach().bfloat16()
    result = LIKELIHOODS[name].log_prob(half, batch)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result.double(), LIKELIHOODS[name].log_prob(half.double(), batch), rtol=1e-5, atol=1e-5
    )
