"""Hold what a denoiser is told beside the noisy latents: tensors by the names that it calls them.

A row of every tensor belongs to one row of latents. It does not know what the tensors mean; families of models
have one (hidden states) or several (pooled text, sizes, masks).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Tensors by name, row first."""

    tensors: dict[str, Tensor]

    @classmethod
    def joined(cls, parts: list["Conditions"]) -> "Conditions":
        """Put the rows of several one after another."""
        names = parts[0].tensors
        return cls({name: torch.cat([part.tensors[name] for part in parts]) for name in names})

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> "Conditions":
        """Give some of the rows."""
        return Conditions({name: tensor[rows] for name, tensor in self.tensors.items()})

    def repeat(self, times: int) -> "Conditions":
        """Give every row so many times, its copies together."""
        return Conditions({n: x.repeat_interleave(times, 0) for n, x in self.tensors.items()})

    def to(self, device: torch.device | str) -> "Conditions":
        """Move all tensors to a device."""
        return Conditions({name: tensor.to(device) for name, tensor in self.tensors.items()})
