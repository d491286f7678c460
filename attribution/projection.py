"""Draw the random projections of each layer's gradient, the same on every machine.

In: a seed and a layer's name. Out: Gaussian factors for its two sides, and a sparse sketch that folds
their product to `proj_dim` numbers. It does not know the network.
"""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def generator(*key: object) -> torch.Generator:
    """Make a CPU generator seeded by SHA-256 of the key, so that no two uses share a stream."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def gaussian(rows: int, columns: int, *key: object) -> Float[Tensor, "rows columns"]:
    """Draw a projection to `rows` dimensions that keeps squared lengths on average.

    With no more columns than rows, nothing is to be saved and the identity is returned.
    """
    if columns <= rows:
        return torch.eye(columns)
    return torch.randn(rows, columns, generator=generator(*key)) / rows**0.5


@dataclass(frozen=True)
class Sketch:
    """A sparse Johnson-Lindenstrauss map: each input goes to one bucket with a sign (count sketch).

    Source: Charikar, Chen, Farach-Colton 2002; after a factorised block it repairs most of what the
    factorisation loses against a dense projection.
    """

    bucket: Int[Tensor, "inputs"]
    sign: Float[Tensor, "inputs"]
    proj_dim: int

    def __call__(self, block: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch proj_dim"]:
        """Fold a block of projected gradients."""
        folded = block.new_zeros(block.shape[0], self.proj_dim)
        return folded.index_add_(
            1, self.bucket.to(block.device), block * self.sign.to(block.device)
        )


def sketch(inputs: int, proj_dim: int, *key: object) -> Sketch:
    """Draw a sketch of `inputs` numbers to `proj_dim`, with buckets filled as evenly as can be."""
    draw = generator(*key)
    order = torch.randperm(inputs, generator=draw)
    sign = torch.randint(0, 2, (inputs,), generator=draw).float() * 2 - 1
    return Sketch(order % proj_dim, sign, proj_dim)
