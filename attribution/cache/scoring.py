"""Score training images against queries, group by group, in one pass over the cache.

    tau(q, n; w) = sum_j w_j C[q, j, n],    C[q, j, n] = <K_j q_j, g_j(n)>       (arXiv 2506.05647, eq. 3)

The contributions C do not depend on the weights, so that re-weighting is one small product. Where even C is
too large to keep, search.py holds no more than the first rows.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.cache.shards import unit_of
from attribution.cache.store import Cache

AT_ONCE = 2**18  # numbers widened to float32 together: 1 MB, which stays in a core's cache


def widened(stored: Tensor) -> Iterator[tuple[slice, Float[Tensor, "groups dim row"]]]:
    """Give stored features `[group, dim, row]` as float32, some groups at a time, in one buffer."""
    groups = max(1, AT_ONCE // stored.shape[1:].numel())
    buffer = torch.empty(groups, *stored.shape[1:])
    for group in range(0, len(stored), groups):
        some = stored[group : group + groups]
        yield slice(group, group + len(some)), buffer[: len(some)].copy_(some)


def products(
    queries: Float[Tensor, "query group dim"],
    stored: Tensor,  # [group, dim, row], float16 or 8-bit codes
    out: Tensor,  # [query, group, row]
) -> None:
    """Write every group's inner product of queries with stored features."""
    by_group = (queries / unit_of(stored)).transpose(0, 1).contiguous()  # [group, query, dim]
    for groups, wide in widened(stored):
        out[:, groups] = torch.bmm(by_group[groups], wide).transpose(0, 1)


def chunks(
    queries: Float[Tensor, "query group dim"], cache: Cache, rows_at_once: int = 256
) -> Iterator[tuple[int, Float[Tensor, "query group chunk"]]]:
    """Give the contributions of some rows at a time, with the first row's place in the cache."""
    for start, stored in cache.stream():
        for row in range(0, stored.shape[2], rows_at_once):
            some = stored[..., row : row + rows_at_once]
            parts = torch.empty(*queries.shape[:2], some.shape[2])
            products(queries, some, parts)
            yield start + row, parts


def contributions(
    queries: Float[Tensor, "query group dim"],
    cache: Cache,
    parts: Float[Tensor, "query group train"] | None = None,
) -> Float[Tensor, "query group train"]:
    """Give every group's inner product of (kernelised) queries with every training row.

    At a million rows, memory that was used before, given as `parts`, spares the time of paging it in.
    """
    if parts is None:
        parts = torch.empty(*queries.shape[:2], len(cache))
    for start, stored in cache.stream():
        products(queries, stored, parts[..., start : start + stored.shape[2]])
    return parts


def weighted(
    parts: Float[Tensor, "query group train"], weights: Float[Tensor, "group"]
) -> Float[Tensor, "query train"]:
    """Sum the contributions by the groups' weights."""
    return weights @ parts


def sums(
    queries: Float[Tensor, "query group dim"],
    stored: Tensor,  # [group, dim, row], float16 or 8-bit codes
) -> Float[Tensor, "query row"]:
    """Sum all groups' inner products of (weighted) queries with stored features."""
    asked = queries / unit_of(stored)
    found = torch.zeros(len(queries), stored.shape[2])
    for groups, wide in widened(stored):
        found.addmm_(asked[:, groups].flatten(1), wide.flatten(0, 1))
    return found


def scores(queries: Float[Tensor, "query group dim"], cache: Cache) -> Float[Tensor, "query train"]:
    """Score every training row for (weighted, kernelised) queries; contributions of groups are not kept."""
    return torch.cat([sums(queries, stored) for _, stored in cache.stream()], 1)


def mean_feature(cache: Cache) -> Float[Tensor, "group dim"]:
    """Give the mean of all training rows, each at norm one."""
    total = torch.zeros(cache.kernel.shape[:2])
    for _, stored in cache.stream():
        for groups, wide in widened(stored):
            total[groups] += wide.sum(2) / unit_of(stored)
    return total / len(cache)


def top(scores: Float[Tensor, "query train"], count: int) -> Int[Tensor, "query count"]:
    """Rank the best training images first; fewer where there are fewer."""
    return scores.topk(min(count, scores.shape[1]), dim=1).indices
