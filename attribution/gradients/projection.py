"""Draw the random projections of each layer's gradient, the same on every machine.

In: a seed and a layer's name. Out: folds of a layer's two sides and a sketch of their product, all of them
count sketches (Charikar, Chen, Farach-Colton 2002): each input goes to one bucket with a random sign, so that
inner products survive on average and nothing needs a multiplication by a dense matrix. It does not know the
network.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from attribution.seeds import generator


def signs(count: int, *key: object) -> Float[Tensor, "count"]:
    """Draw +1 and -1 with equal chance."""
    return torch.randint(0, 2, (count,), generator=generator(*key)).float() * 2 - 1


def fold(rows: int, columns: int, *key: object) -> Float[Tensor, "rows columns"]:
    """Draw a count sketch of `columns` numbers to `rows`, as a matrix with one sign in each column."""
    matrix = torch.zeros(rows, columns)
    places = torch.arange(columns)
    matrix[places % rows, places] = signs(columns, *key)
    return matrix


@dataclass
class Sketch:
    """A count sketch of a flat block to `proj_dim` numbers; a block that fits is kept as it is.

    The bucket of number i is i modulo `buckets`, which shares no factor with the block's sides: else the
    numbers of one column would meet in one bucket, and they are alike in size.
    """

    inputs: int
    buckets: int
    proj_dim: int
    sign: Float[Tensor, "inputs"]

    def to(self, device: torch.device) -> None:
        """Move the signs to a device."""
        self.sign = self.sign.to(device)

    def __call__(self, block: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch proj_dim"]:
        """Fold a block of gradients."""
        if self.inputs <= self.proj_dim:
            return functional.pad(block, (0, self.proj_dim - self.inputs))
        signed, whole = block * self.sign, self.inputs // self.buckets * self.buckets
        folded = functional.pad(
            signed[:, :whole].unflatten(1, (-1, self.buckets)).sum(1),
            (0, self.proj_dim - self.buckets),
        )
        folded[:, : self.inputs - whole] += signed[:, whole:]
        return folded


def sketch(rows: int, columns: int, proj_dim: int, *key: object) -> Sketch:
    """Draw a sketch of a block of `rows` x `columns` numbers."""
    buckets = proj_dim
    while math.gcd(buckets, rows * columns) > 1:
        buckets -= 1
    return Sketch(rows * columns, buckets, proj_dim, signs(rows * columns, *key))
