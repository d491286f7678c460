"""The table of base methods: whose gradient is taken, and whether a kernel decorrelates it.

A method is a row of data. An objective takes the model's output and target, both
[batch, channel, height, width], and gives one number per example.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError

Objective = Callable[[Tensor, Tensor], Float[Tensor, "batch"]]


def denoising_loss(output: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
    """Give the training loss of each example, || target - output ||^2 (mean over elements)."""
    return (target - output).square().flatten(1).mean(1)


def output_square(output: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
    """Give || output ||^2 (mean over elements), D-TRAK's design choice: it needs no target."""
    return output.square().flatten(1).mean(1)


OBJECTIVES = {"denoising_loss": denoising_loss, "output_square": output_square}


@dataclass(frozen=True)
class Method:
    """One base method."""

    name: str
    objective: str  # a name in OBJECTIVES
    kernel: bool  # K = (mean of g g^T + damping)^-1 within each group, instead of the identity
    source: str


METHODS = {
    method.name: method
    for method in (
        Method("d-trak", "output_square", True, "Zheng et al. 2024, arXiv 2311.00500"),
        Method("trak", "denoising_loss", True, "Park et al. 2023, arXiv 2303.14186"),
        Method("tracin", "denoising_loss", False, "Pruthi et al. 2020, arXiv 2002.08484"),
    )
}


def method_named(name: str) -> Method:
    """Look a method up by name."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]
