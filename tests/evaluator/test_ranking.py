"""Lists found in two stages, or by groups, against ``torch.topk`` of all scores."""

import pytest
import torch

from recbole_evcf.evaluator.ranking import TopItems, top_k
from recbole_evcf.model.layers import OutputLayer

WIDTH, ITEMS, USERS = 24, 6001, 130
K = [1, 10, 20]


def drawn(kind):
    """Hidden layers, weights and biases whose scores are of some kind."""
    torch.manual_seed(4)
    h, weight, bias = torch.randn(USERS, WIDTH), torch.randn(ITEMS, WIDTH), torch.randn(ITEMS)
    if kind == "below zero":
        bias -= 40
    elif kind == "popular":
        # Some items' vectors are long, others' short.
        weight *= torch.rand(ITEMS, 1).pow(-0.5).clamp(max=30)
    elif kind == "tied":
        weight, bias = weight[torch.arange(ITEMS) % 900], bias[torch.arange(ITEMS) % 900]
    elif kind == "whole numbers":
        h, weight, bias = h.round(), weight.round(), bias.round()
    elif kind == "one apart":
        # Next to each other in single precision, and the same in bf16.
        weight, bias = weight[:1].repeat(ITEMS, 1), torch.zeros(ITEMS)
        weight[:, 0] = 1 + torch.randperm(ITEMS) * 2.0**-23
    elif kind == "cancelling":
        # Large terms that cancel: the product in bf16 says little.
        h[:, 1], weight[:, 1] = h[:, 0], -1000 * weight[:, 0]
        weight[:, 0] *= 1000
    elif kind == "rounded up and down":
        # As far from bf16 as may be, each in the direction in which it is wrong most.
        h = h.sign() * (1 + 2.0**-8 * 0.99)
        weight = weight.sign() * torch.where(torch.arange(ITEMS) % 2 == 0, 1.0039, 1.0038)[:, None]
    elif kind == "small":
        h, weight, bias = h * 1e-20, weight * 1e-20, bias * 1e-39
    elif kind == "large":
        h, weight = h * 1e19, weight * 1e19
    elif kind == "broken":
        weight[7], bias[9], bias[11], h[3] = torch.nan, torch.inf, -torch.inf, torch.nan
    elif kind == "nothing known":
        h *= (torch.arange(USERS) % 2)[:, None]
    return h, weight, bias


KINDS = ["random", "below zero", "popular", "tied", "whole numbers", "one apart", "cancelling"]
KINDS += ["rounded up and down", "small", "large", "broken", "nothing known"]


def two_parts(kind, nowhere):
    """Hidden layers, a layer, and all its scores: the padding item's first."""
    h, weight, bias = drawn(kind)
    layer = OutputLayer(WIDTH, ITEMS).requires_grad_(False)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    asked = []

    def score(h):
        asked.append(len(h))
        scores = torch.zeros(len(h), ITEMS + 1)
        layer.score(h, scores[:, 1:])
        return scores

    return h, TopItems(layer.weight, layer.bias, score, nowhere), asked


@pytest.mark.parametrize("k", K)
@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_those_of_all_scores(kind, k):
    nowhere = torch.arange(ITEMS if k == 10 else 0)[::6]
    h, top_items, asked = two_parts(kind, nowhere)
    scores = top_items.score(h)
    scores[:, 0] = -torch.inf
    scores[:, nowhere + 1] = -torch.inf
    left_out = torch.rand(USERS, ITEMS) < 0.3
    # One is left with fewer than K items, one with none.
    left_out[0, 5:], left_out[1] = True, True
    row, column = left_out.nonzero(as_tuple=True)
    scores[row, column + 1] = -torch.inf
    values, places = torch.topk(scores, k)
    asked.clear()
    found = top_items(h, k, row, column)
    assert torch.equal(found[0].nan_to_num(), values.nan_to_num())
    assert torch.equal(found[1], places - 1)
    if kind in ("random", "below zero", "popular"):
        # The first two, and as many as a product needs.
        assert asked == [8]


@pytest.mark.parametrize("kind", ["random", "tied", "below zero", "broken"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_greatest_of_groups_are_topk(kind, dtype):
    h, weight, bias = drawn(kind)
    scores = (h @ weight.T + bias).to(dtype)
    scores[0, 3:], scores[1] = -torch.inf, -torch.inf
    for k in K:
        for found, expected in zip(top_k(scores, k), torch.topk(scores, k)):
            assert torch.equal(found.nan_to_num(), expected.nan_to_num())
