"""Score training images against queries, group by group.

    tau(q, n; w) = sum_j w_j C[q, j, n],    C[q, j, n] = <K_j q_j, g_j(n)>       (arXiv 2506.05647, eq. 3)

The contributions C do not depend on the weights, so that re-weighting is one small product.
"""

from jaxtyping import Float, Int
from torch import Tensor


def contributions(
    queries: Float[Tensor, "query group dim"], train: Float[Tensor, "train group dim"]
) -> Float[Tensor, "query group train"]:
    """Give every group's inner product of (kernelised) queries with training features."""
    products = queries.transpose(0, 1) @ train.permute(1, 2, 0)  # [group, query, train]
    return products.transpose(0, 1)


def weighted(
    parts: Float[Tensor, "query group train"], weights: Float[Tensor, "group"]
) -> Float[Tensor, "query train"]:
    """Sum the contributions by the groups' weights."""
    return weights @ parts


def top(scores: Float[Tensor, "query train"], count: int) -> Int[Tensor, "query count"]:
    """Rank the best training images first; fewer where there are fewer."""
    return scores.topk(min(count, scores.shape[1]), dim=1).indices
