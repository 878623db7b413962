"""The K greatest of many scores, exactly as ``torch.topk`` finds them, and faster."""

from collections.abc import Callable

import torch
from torch import Tensor

# Items whose maximum is looked at before they are.
GROUP = 32
# Columns of a product: BLAS is slower for other numbers than multiples of it.
WIDTH = 32
# Users that are scored again in one product.
TOGETHER = 8
# Of fewer items, or for fewer users in each thread, nothing is gained.
FEW_ITEMS, FEW_USERS = 4096, 16


def gains(weight: Tensor) -> bool:
    """Whether :class:`TopItems` is faster for a layer of such weights, (items, width): on a
    processor that multiplies bf16 matrices in hardware, and sums up in single precision."""
    # A method of torch's with an underscore is there in every version that we take.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    single = weight.device.type == "cpu" and weight.dtype == torch.float32
    return single and len(weight) >= FEW_ITEMS and fast


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``torch.topk(scores, k)`` of (rows, items): values and places, those of ties too."""
    half = scores.dtype in (torch.bfloat16, torch.float16)
    if half or scores.device.type != "cpu" or not _many(scores.shape[1], 12 * k):
        return torch.topk(scores, k)
    values, places = _greatest(scores, k + 1)
    # The order of ties, and of numbers that are none, is torch's own.
    unsure = ~(values[:, 1:] < values[:, :-1]).all(1)
    values, places = values[:, :k].contiguous(), places[:, :k].contiguous()
    if unsure.any():
        values[unsure], places[unsure] = torch.topk(scores[unsure], k)
    return values, places


def _many(n_items: int, groups: int) -> bool:
    return n_items >= max(FEW_ITEMS, groups * GROUP)


def _greatest(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n greatest of each row and their places, ties in any order: they are in the n groups
    with the greatest maxima, or in what is left beside whole groups. Neighbours are in different
    groups: so the maxima are those of vectors."""
    n_items = scores.shape[1]
    n_groups = n_items // GROUP
    whole = n_groups * GROUP
    groups = _greatest_groups(scores[:, :whole].unflatten(1, (GROUP, n_groups)), n)
    places = (groups[:, :, None] + n_groups * torch.arange(GROUP)).flatten(1)
    rest = torch.arange(whole, n_items).expand(len(scores), -1)
    places = torch.cat([places, rest], dim=1)
    values, chosen = scores.gather(1, places).topk(n)
    return values, places.gather(1, chosen)


def _greatest_groups(grouped: Tensor, n: int) -> Tensor:
    if grouped.dtype != torch.bfloat16:
        return grouped.amax(1).topk(n).indices
    # As whole numbers, which is many times as fast: above 0 they are in the order of the numbers
    # that they encode, below 0 in the opposite one.
    codes = grouped.view(torch.int16)
    greatest = codes.amax(1)
    values, groups = greatest.view(torch.bfloat16).float().topk(n)
    if not (values[:, -1] >= 0).all():
        greatest = torch.where(greatest < 0, codes.amin(1), greatest)
        groups = greatest.view(torch.bfloat16).float().topk(n).indices
    return groups


class TopItems:
    """The K best items by scores ``h W^T + b``, found by a product in half precision.

    With h = h' + dh and w = w' + dw, h' and w' in bf16,

    .. math:: |h w - h' w'| \\le |dh| |w'| + |h| |dw|

    so that ``h' w' + b + |dh| |w'| + |h| |dw|``, one product with four columns more, is an upper
    bound of a score, once what sums may lose in single precision is added. The items with the
    greatest bounds are scored again, in single precision: if the K-th of these scores is above the
    greatest bound that was left out, and none is equal to the next, the list is certain. The
    other users are ranked by all scores; and all are where :func:`gains` says so.

    Args:
        weight: W, (items, width), not to be changed.
        bias: b, (items,).
        score: the model's own scores of all items by h, (users, width) -> (users, items), or with
            columns before them that are not ranked.
        nowhere: places of items that are left out of all lists.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        score: Callable[[Tensor], Tensor],
        nowhere: Tensor | None = None,
    ):
        self.weight, self.bias, self.score = weight.detach(), bias.detach(), score
        self.nowhere = torch.zeros(0, dtype=torch.long) if nowhere is None else nowhere
        self.gains = gains(weight)
        if not self.gains:
            return
        # What a sum of so many terms may lose in any order, twice for the product in half
        # precision, whose hardware may cut off, and once for that in single precision; and more.
        self.rounding = (weight.shape[1] + 8) * 2.0**-22
        low, high = self.weight.bfloat16(), self.bias.bfloat16()
        rest = self.bias - high.float()
        rest += 0.02 * rest.abs() + self.rounding * self.bias.abs() + 1e-30
        norms = _up(_norm(low.float())), _up(_norm(self.weight - low.float()))
        self.largest = norms[0].float().amax(), self.bias.abs().amax()
        self.low = _beside(low, high, rest.bfloat16(), *norms)
        self._bounds = low.new_empty(0, len(low))

    @torch.no_grad()
    def __call__(self, h: Tensor, k: int, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """What ``torch.topk`` finds in the scores of some users, that of what is left out -inf.

        Args:
            h: (users, width).
            k: K, at most the number of items.
            row, column: places of users and items that are left out, (pairs,).

        Returns:
            scores and places of the K items, (users, K), the greatest first.
        """
        few = len(h) < FEW_USERS * torch.get_num_threads()
        if few or not self.gains or not _many(len(self.weight), 3 * _candidates(k)):
            return self._by_all(h, k, row, column)
        scores, places, certain = self._by_candidates(h, k, row, column)
        unsure = (~certain).nonzero().squeeze(1)
        if n := len(unsure):
            # A product for a handful of users would round in another way: the rest is repeated.
            ranked = unsure.repeat(-(-TOGETHER // n))
            place = torch.full_like(certain, -1, dtype=torch.long)
            place[unsure] = torch.arange(n)
            of_them = place[row] >= 0
            found = self._by_all(h[ranked], k, place[row[of_them]], column[of_them])
            scores[unsure], places[unsure] = (each[:n] for each in found)
        return scores, places

    def _by_all(self, h: Tensor, k: int, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(h)
        before = scores.shape[1] - len(self.weight)
        scores[:, :before] = -torch.inf
        scores[row, column + before] = -torch.inf
        scores[:, self.nowhere + before] = -torch.inf
        values, places = top_k(scores, k)
        return values, places - before

    def _by_candidates(
        self, h: Tensor, k: int, row: Tensor, column: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and places, and which users' are certain, (users,)."""
        low, norm = h.bfloat16(), _norm(h)
        error = _norm(h - low.float()) + self.rounding * norm
        one = torch.ones_like(norm, dtype=torch.bfloat16)
        low = _beside(low, one, one, _up(error), _up(norm))
        if len(low) > len(self._bounds):
            self._bounds = low.new_empty(len(low), len(self.low))
        # New memory would take a tenth of the product's time.
        bounds = torch.mm(low, self.low.T, out=self._bounds[: len(low)])
        bounds[row, column] = -torch.inf
        bounds[:, self.nowhere] = -torch.inf
        bound, places = _greatest(bounds, _candidates(k))
        bound = bound.float()
        scores = self._again(h, places).masked_fill_(bound == -torch.inf, -torch.inf)
        scores, order = scores.topk(k + 1)
        # The bounds were rounded to bf16.
        left_out = bound[:, -1] + bound[:, -1].abs() * 2.0**-8 + 1e-30
        certain = (scores[:, 1:] < scores[:, :-1]).all(1) & (scores[:, k - 1] > left_out)
        # Nothing overflows, and all are numbers.
        certain &= norm * self.largest[0] + self.largest[1] < 1e37
        return scores[:, :k].contiguous(), places.gather(1, order[:, :k]), certain

    def _again(self, h: Tensor, places: Tensor) -> Tensor:
        """Scores of some items, (users, n), each the same number as among those of all items: of
        enough users and items, BLAS sums up each alike, as the tests find. (Otherwise neighbours
        that are closer than rounding might change places. To ask for a gap of its bound would leave
        most lists of 100 uncertain.)"""
        users, found = torch.arange(-(-len(h) // TOGETHER) * TOGETHER) % len(h), []
        for part in users.split(TOGETHER):
            items = places[part].flatten()
            weight = self.weight.index_select(0, items)
            product = torch.addmm(self.bias[items], h[part], weight.T)
            found.append(product.unflatten(1, (TOGETHER, -1)).diagonal().T)
        return torch.cat(found)[: len(h)]


def _candidates(k: int) -> int:
    return k + k // 2 + 16


def _beside(matrix: Tensor, *columns: Tensor) -> Tensor:
    """The columns beside a matrix, and zeros up to a multiple of :data:`WIDTH`."""
    rows, width = matrix.shape
    result = matrix.new_zeros(rows, -(-(width + len(columns)) // WIDTH) * WIDTH)
    result[:, :width] = matrix
    result[:, width : width + len(columns)] = torch.stack(columns, dim=1)
    return result


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1)


def _up(x: Tensor) -> Tensor:
    """A number of bf16 that is at least x, by more than norms and sums of them are rounded."""
    return (x * 1.02 + 1e-30).bfloat16()
