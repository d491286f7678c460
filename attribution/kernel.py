"""Fit the kernel that decorrelates features: one block for each group.

    K = (Phi^T Phi / N + damping * mean diagonal * I)^-1        (TRAK, arXiv 2303.14186, eq. 13, by blocks)

In: training features. Out: `[group, dim, dim]`. As K is symmetric and acts within a group, it may be applied
to the query instead of to every training row: <q, K g> = <K q, g>.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError


def fit_kernel(
    features: Float[Tensor, "train group dim"], damping: float = 1.0
) -> Float[Tensor, "group dim dim"]:
    """Invert the damped second moment of every group, in float64."""
    if damping <= 0:
        raise InputError(
            f"damping is {damping}; it must be above zero, or the kernel may be singular"
        )
    blocks = features.transpose(0, 1).double()  # [group, train, dim]
    moment = blocks.transpose(1, 2) @ blocks / len(features)
    mean_diagonal = moment.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    identity = torch.eye(features.shape[2], dtype=torch.float64)
    kernel = torch.linalg.inv(moment + damping * mean_diagonal[:, None, None] * identity)
    return (kernel * mean_diagonal[:, None, None]).float()  # scaled to order one


def apply_kernel(
    queries: Float[Tensor, "query group dim"], kernel: Float[Tensor, "group dim dim"]
) -> Float[Tensor, "query group dim"]:
    """Give K q for every query."""
    return torch.einsum("qgd,gde->qge", queries, kernel)
