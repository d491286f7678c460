"""Share the positions of a layer out among the cells of a square grid over the picture.

In: how a layer's positions lie. Out: a matrix whose columns sum to one, so that whatever is shared out keeps its
sum. It knows no layer and no picture.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.models.network import sides


@lru_cache(maxsize=64)
def cell_parts(layout: tuple[int, ...], grid: int) -> Float[Tensor, "cell position"]:
    """Give the part of each position's area that each of grid x grid cells covers, row by row.

    What has no place in the picture goes to one more cell, the last.
    """
    positions = math.prod(layout)
    placed = sides(layout)
    if placed is None:
        return torch.eye(grid * grid + 1)[:, -1:].expand(-1, positions)
    height, width = (overlap(side, grid) for side in placed)
    return torch.cat([torch.kron(height, width), torch.zeros(1, positions)])


def overlap(side: int, grid: int) -> Float[Tensor, "cell position"]:
    """Give the part of each of `side` equal intervals that each of `grid` equal intervals covers."""
    cell, position = torch.arange(grid)[:, None] / grid, torch.arange(side) / side
    end = torch.minimum(cell + 1 / grid, position + 1 / side)
    return ((end - torch.maximum(cell, position)) * side).clamp_min(0)
