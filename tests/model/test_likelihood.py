"""Likelihoods and their hand-written gradients against torch.distributions."""

from itertools import combinations

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Multinomial as TorchMultinomial

from recbole_evcf.data.histories import Histories
from recbole_evcf.model import likelihood
from recbole_evcf.model.likelihood import LIKELIHOODS, Multinomial, sampled_items

pytestmark = pytest.mark.usefixtures("double")

USERS = torch.tensor([4, 1, 3, 8, 2])


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return (torch.randn(5, 12) * 3).requires_grad_()


def expected_log_prob(name, logits, x):
    if name == "bernoulli":
        return TorchBernoulli(logits=logits).log_prob(x).sum(1)
    rows = zip(logits, x)
    full = [TorchMultinomial(int(row.sum()), logits=of).log_prob(row) for of, row in rows]
    # torch counts the orderings of distinct items: n! of them.
    return torch.stack(full) - torch.lgamma(x.sum(1) + 1)


@pytest.mark.parametrize("size", [1, 7, 30, 10**6])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_value_and_gradient_in_blocks_of_any_size(
    histories, logits, name, transposed, size, monkeypatch
):
    batch, upstream = histories.rows(USERS), torch.rand(len(USERS))
    expected = expected_log_prob(name, logits, batch.dense())
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


@pytest.mark.parametrize("users", [[4], [4, 1]])
def test_the_sum_over_sampled_items_is_in_expectation_that_over_all(users, dense, monkeypatch):
    """All samples there are, one by one, against the formula written out."""
    batch = Histories(dense).rows(torch.tensor(users))
    x = torch.tensor(dense[users], dtype=torch.float64)
    logits = torch.randn(len(users), 12, requires_grad=True)
    others = (x.sum(0) == 0).nonzero()[:, 0]
    sums, ours, theirs = [], [], []
    for drawn in combinations(range(len(others)), 2):
        order = [*drawn, *(i for i in range(len(others)) if i not in drawn)]
        monkeypatch.setattr(torch, "randperm", lambda n, order=order, **_: torch.tensor(order))
        items, shift, within = sampled_items(batch, 2)
        sums.append((logits[:, items] + shift).exp().sum(1))
        loss = Multinomial.log_prob(logits[:, items] + shift, within).sum()
        ours.append(torch.autograd.grad(loss, logits)[0])
        weight = (x.sum(0) > 0).double()
        weight[others[list(drawn)]] = len(others) / 2
        naive = (x * logits).sum(1) - x.sum(1) * torch.log((weight * logits.exp()).sum(1))
        theirs.append(torch.autograd.grad(naive.sum(), logits)[0])
    torch.testing.assert_close(torch.stack(sums).mean(0), logits.exp().sum(1))
    torch.testing.assert_close(torch.stack(ours).mean(0), torch.stack(theirs).mean(0))


def test_with_all_items_sampled_the_likelihood_is_the_whole_one(histories, logits):
    batch = histories.rows(USERS)
    items, shift, within = sampled_items(batch, 12)
    assert items.tolist() == list(range(12))
    result = Multinomial.log_prob(logits[:, items] + shift, within)
    torch.testing.assert_close(result, expected_log_prob("multinomial", logits, batch.dense()))
