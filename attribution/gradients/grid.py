"""Share the positions of a layer out among the cells of a grid over the picture.

In: how a layer's positions lie. Out: a matrix whose columns sum to one, so that whatever is shared out keeps its
sum. It knows no layer and no picture.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attribution.models.network import sides


class Grid(NamedTuple):
    """How many rows and columns of cells lie over a picture, whose latents are so high and wide."""

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def over(cls, height: int, width: int, most: int) -> "Grid":
        """Give each of the latents a cell, or the longer side as many as `most` and the shorter in proportion."""
        part = min(1.0, most / max(height, width))
        return cls(max(1, round(height * part)), max(1, round(width * part)), height, width)

    @property
    def cells(self) -> int:
        """Count the cells, with the one for what has no place."""
        return self.rows * self.columns + 1


@lru_cache(maxsize=64)
def cell_parts(layout: tuple[int, ...], grid: Grid) -> Float[Tensor, "cell position"]:
    """Give the part of each position's area that each cell of a grid covers, row by row.

    What has no place in the picture goes to one more cell, the last.
    """
    positions = math.prod(layout)
    placed = sides(layout, (grid.height, grid.width))
    if placed is None:
        return torch.eye(grid.cells)[:, -1:].expand(-1, positions)
    height, width = (
        overlap(side, count) for side, count in zip(placed, (grid.rows, grid.columns), strict=True)
    )
    return torch.cat([torch.kron(height, width), torch.zeros(1, positions)])


def overlap(side: int, grid: int) -> Float[Tensor, "cell position"]:
    """Give the part of each of `side` equal intervals that each of `grid` equal intervals covers."""
    cell, position = torch.arange(grid)[:, None] / grid, torch.arange(side) / side
    end = torch.minimum(cell + 1 / grid, position + 1 / side)
    return ((end - torch.maximum(cell, position)) * side).clamp_min(0)
