"""Likelihoods and their hand-written gradients against torch.distributions."""

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Multinomial as TorchMultinomial

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


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradient(histories, logits, name):
    batch = histories.rows(USERS)
    assert torch.autograd.gradcheck(lambda t: LIKELIHOODS[name].log_prob(t, batch), logits)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_half_precision_logits_are_summed_in_single(histories, logits, name):
    batch = histories.rows(USERS)
    half = logits.detach().bfloat16()
    result = LIKELIHOODS[name].log_prob(half, batch)
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result.double(), LIKELIHOODS[name].log_prob(half.double(), batch), rtol=1e-5, atol=1e-5
    )
