"""Hold what a denoiser is told beside the noisy latents: tensors by the names that it calls them.

A row of every tensor belongs to one row of latents. It does not know what the tensors mean; families of models
have one (hidden states), several (pooled text, sizes, masks) or one that says nothing. Captions of unequal length give rows
of unequal shape, which are kept in a list and never padded: padding is seen by some denoisers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Rows = Tensor | list[Tensor]  # a list, each [1, ...], where their shapes differ


@dataclass(frozen=True)
class Conditions:
    """Tensors by name, row first."""

    tensors: dict[str, Rows]

    @classmethod
    def joined(cls, parts: list["Conditions"]) -> "Conditions":
        """Put the rows of several one after another."""
        names = parts[0].tensors
        return cls({name: _joined([part.tensors[name] for part in parts]) for name in names})

    @property
    def ragged(self) -> bool:
        """Tell whether rows differ in shape, so that no single call of a denoiser takes them all."""
        return any(isinstance(rows, list) for rows in self.tensors.values())

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> "Conditions":
        """Give some of the rows."""
        return Conditions({name: _some(found, rows) for name, found in self.tensors.items()})

    def repeat(self, times: int) -> "Conditions":
        """Give every row so many times, its copies together."""
        return Conditions({name: _repeated(rows, times) for name, rows in self.tensors.items()})

    def to(self, device: torch.device | str) -> "Conditions":
        """Move all tensors to a device."""
        return Conditions(
            {
                name: [row.to(device) for row in rows]
                if isinstance(rows, list)
                else rows.to(device)
                for name, rows in self.tensors.items()
            }
        )

    def alike(self) -> Iterator[slice]:
        """Give runs of rows that have the same shapes."""
        shapes = [
            [row.shape if isinstance(row, Tensor) else () for row in rows]
            for rows in (list(found) for found in self.tensors.values())
        ]
        start, found = 0, list(zip(*shapes, strict=True))
        for row in range(1, len(found) + 1):
            if row == len(found) or found[row] != found[start]:
                yield slice(start, row)
                start = row


def _joined(parts: list[Rows]) -> Rows:
    whole = [part for part in parts if isinstance(part, Tensor)]
    if len(whole) == len(parts) and len({part.shape[1:] for part in whole}) == 1:
        return torch.cat(whole)
    rows = [row for part in parts for row in (part if isinstance(part, list) else part.split(1))]
    return torch.cat(rows) if len({row.shape for row in rows}) == 1 else rows


def _some(rows: Rows, wanted: slice | Tensor) -> Rows:
    if isinstance(rows, Tensor):
        return rows[wanted]
    chosen = rows[wanted] if isinstance(wanted, slice) else [rows[i] for i in wanted.tolist()]
    return _joined(chosen) if chosen else chosen


def _repeated(rows: Rows, times: int) -> Rows:
    if isinstance(rows, Tensor):
        return rows.repeat_interleave(times, 0)
    return [row for row in rows for _ in range(times)]
