"""Dropout by its frequencies, and clamp with dropout against torch's own operations."""

import pytest
import torch

from recbole_evcf.model.dropout import BLOCK, clamp_and_drop, drop_entries, item_blocks, keep_mask


@pytest.mark.parametrize("p", [0.5, 0.2, 0.03, 0.97])
def test_the_mask_drops_with_probability_p(p):
    torch.manual_seed(0)
    keep, scale = keep_mask(torch.empty(1000, 803), p)
    n = keep.numel()
    assert set(keep.unique().tolist()) == {0, 1}
    assert abs(keep.double().mean() - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    # In no direction do draws hang together: a word of the generator serves four entries.
    centred = keep.double() - keep.double().mean()
    for lag in (1, 2, 3, 4, 803):
        product = (centred.flatten()[lag:] * centred.flatten()[:-lag]).mean() / centred.var()
        assert abs(product) < 5 / n**0.5
    assert scale == pytest.approx(1 / (1 - p), rel=2e-3 if p > 0.9 else 1e-4)


def test_entries_are_zeroed_and_the_rest_scaled(histories):
    torch.manual_seed(0)
    batch = histories.rows(torch.arange(1, 9).repeat(200)).normalized()
    dropped = drop_entries(batch, 0.25)
    kept = dropped.values != 0
    assert abs(kept.double().mean() - 0.75) < 0.02
    torch.testing.assert_close(dropped.values[kept], batch.values[kept] / 0.75)
    assert drop_entries(batch, 0.0) is batch


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.25])
def test_clamp_and_drop_of_several_blocks_equals_the_two_operations(p, transposed):
    torch.manual_seed(3)
    start = torch.rand(401, 700) * 1.5 - 0.25
    # Also at the bounds themselves, where the gradient passes.
    start[:, :2] = torch.tensor([0.0, 1.0])
    assert start.numel() > 2 * BLOCK
    start = start.T.contiguous().T if transposed else start
    x = start.clone().requires_grad_()
    upstream = torch.randn(start.shape)
    torch.manual_seed(2)
    result = clamp_and_drop(x, p)
    torch.manual_seed(2)
    keeps, scales = zip(*(keep_mask(block, p) for block in item_blocks(start, BLOCK)))
    kept = torch.cat(keeps).T * scales[0]
    torch.testing.assert_close(result, start.clamp(0, 1) * kept, rtol=0, atol=0)
    result.backward(upstream)
    torch.testing.assert_close(x.grad, upstream * ((start >= 0) & (start <= 1)) * kept)
    assert result.stride() == x.grad.stride() == start.stride()


def test_under_autocast_it_comes_in_half_precision():
    x = torch.rand(6, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = clamp_and_drop(x, 0.5)
    result.sum().backward()
    assert result.dtype == torch.bfloat16
    assert x.grad.dtype == torch.float32
    assert x.grad.unique().tolist() == [0.0, 2.0]
