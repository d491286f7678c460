"""Give every group's contributions under no kernel, under one block for each group, or under one kernel for all.

    C[q, j, n] = <q_j, [K g_n]_j>,   K = I,   K_j = (Phi_j^T Phi_j / N + lambda I)^-1,   K = (Phi^T Phi / N + lambda I)^-1

The full kernel is that of TRAK (arXiv 2303.14186, eq. 13), inverted among N examples instead of among all dimensions:
Phi K = (Phi Phi^T / N + lambda I)^-1 Phi. In: rows at norm one. It knows no weights.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.cache.scoring import products
from attribution.cache.shards import gram_of
from attribution.gradients.kernel import apply_kernel, fit_kernel

DAMPINGS = (0.01, 0.1, 1.0, 10.0)
# kernel -> the strengths that are tried: of the mean diagonal, in the full kernel of that among examples
KERNELS: dict[str, tuple[float | None, ...]] = {"I": (None,), "block": DAMPINGS, "full": DAMPINGS}
Contribute = Callable[[Float[Tensor, "query group dim"]], Float[Tensor, "query group train"]]


def contributions_under(
    train: Float[Tensor, "train group dim"], kernel: str, damping: float | None
) -> Contribute:
    """Prepare the training examples; what is given makes contributions of queries."""
    stored = train.permute(1, 2, 0).contiguous()  # [group, dim, train]

    def plain(queries: Tensor) -> Tensor:
        out = torch.empty(*queries.shape[:2], len(train))
        products(queries, stored, out)
        return out

    if damping is None:
        return plain
    if kernel == "block":
        blocks = fit_kernel(gram_of(stored), len(train), damping)
        return lambda queries: plain(apply_kernel(queries, blocks))
    among = full_kernel(train, damping)
    return lambda queries: plain(queries) @ among


def full_kernel(
    train: Float[Tensor, "train group dim"], damping: float
) -> Float[Tensor, "train train"]:
    """Give (Phi Phi^T / N + damping * mean diagonal * I)^-1, in float64."""
    rows = train.flatten(1)
    among = (rows @ rows.T).double() / len(rows)
    among.diagonal().add_(damping * among.diagonal().mean())
    return torch.linalg.inv(among).float()
