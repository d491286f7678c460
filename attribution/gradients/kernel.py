"""Make the kernel that decorrelates features: one block for each group.

    K = (Phi^T Phi / N + damping * mean diagonal * I)^-1        (TRAK, arXiv 2303.14186, eq. 13, by blocks)

In: the sum of f f^T over training features. Out: `[group, dim, dim]`. As K is symmetric and acts within a
group, it is applied to the query instead of to every training row, <q, K g> = <K q, g>: when images come or
go, only the sum changes, and no row is written again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attribution.errors import InputError


def fit_kernel(
    gram: Float64[Tensor, "group dim dim"], train_count: int, damping: float = 1.0
) -> Float[Tensor, "group dim dim"]:
    """Invert the damped second moment of every group, in float64."""
    if damping <= 0:
        raise InputError(
            f"damping is {damping}; it must be above zero, or the kernel may be singular"
        )
    moment = gram / train_count
    mean_diagonal = moment.diagonal(dim1=1, dim2=2).mean(1)
    mean_diagonal[mean_diagonal == 0] = 1.0  # a silent group's block need only exist
    identity = torch.eye(gram.shape[1], dtype=torch.float64)
    return torch.linalg.inv(moment + damping * mean_diagonal[:, None, None] * identity).float()


def identity(
    gram: Float64[Tensor, "group dim dim"], train_count: int, damping: float = 1.0
) -> Float[Tensor, "group dim dim"]:
    """Leave features as they are."""
    return torch.eye(gram.shape[1]).expand(len(gram), -1, -1).clone()


@dataclass(frozen=True)
class Kernel:
    """How a method decorrelates."""

    fit: Callable[[Tensor, int, float], Float[Tensor, "group dim dim"]]
    damped: bool = True  # has a strength, which can be chosen
    before_projection: bool = False  # queries are preconditioned while they are made (ekfac.py)


BLOCK = Kernel(fit_kernel)
IDENTITY = Kernel(identity, damped=False)
EKFAC = Kernel(identity, before_projection=True)


def apply_kernel(
    queries: Float[Tensor, "query group dim"], kernel: Float[Tensor, "group dim dim"]
) -> Float[Tensor, "query group dim"]:
    """Give K q for every query."""
    return torch.einsum("qgd,gde->qge", queries, kernel)
