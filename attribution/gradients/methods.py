"""The table of base methods: whose gradient is taken, how timesteps and queries are treated, which kernel.

A method is a row of data. An objective takes the model's output and target, both
[batch, channel, height, width], and gives one number per example.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError
from attribution.gradients.kernel import BLOCK, EKFAC, IDENTITY, Kernel
from attribution.gradients.trials import Rule, contrast, path, same
from attribution.shape import MOST_NUMBER

MOST_TIMESTEPS = 1000  # more than a model was trained with would come twice
MOST_DIM = 2**16
Objective = Callable[[Tensor, Tensor], Float[Tensor, "batch"]]


def denoising_loss(output: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
    """Give the training loss of each example, || target - output ||^2 (mean over elements)."""
    return (target - output).square().flatten(1).mean(1)


def output_square(output: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
    """Give || output ||^2 (mean over elements), D-TRAK's design choice: it needs no target."""
    return output.square().flatten(1).mean(1)


def output_mean(output: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
    """Give the mean of the output, as DAS does: it needs no target."""
    return output.flatten(1).mean(1)


def concept_loss(output: Tensor, target: Tensor) -> Float[Tensor, "batch"]:
    """Give - output . stopgrad(output - target) (mean over elements), target = output under no words.

    It falls, as the denoising loss of a training image does, when the output moves to the concept
    (Concept-TRAK, arXiv 2507.06547); so both sides' gradients point the same way.
    """
    return -(output * (output.detach() - target)).flatten(1).mean(1)


OBJECTIVES = {
    "denoising_loss": denoising_loss,
    "output_square": output_square,
    "output_mean": output_mean,
}


@dataclass(frozen=True)
class FeatureConfig:
    """What decides a feature, besides model, picture and prompt."""

    objective: str = "output_square"  # a name in methods.OBJECTIVES
    timesteps: int = 10  # evenly spaced over 0 ... T-1
    ranges: int = 2  # consecutive timesteps are averaged in this many groups
    proj_dim: int = 32
    parameters: str = "weights"  # of Linear and Conv2d layers, or "all": biases and norms, too
    seed: int = 0
    # "mean"; or norm one in each layer at every timestep, and then "unit": the mean, or "paired": side by side,
    # under noise that all pictures share (docs/method.md)
    each_timestep: str = "mean"
    # of which layers: "all", "adapter" (a LoRA's own) or a regular expression that is searched in their names
    layers: str = "all"
    residual: bool = False  # training features times the residual of their range, as in DAS

    def __post_init__(self) -> None:
        if self.each_timestep not in ("mean", "unit", "paired"):
            raise InputError(
                f"each_timestep is {self.each_timestep!r}; choose mean, unit or paired"
            )
        if self.objective not in OBJECTIVES:
            raise InputError(
                f"no objective {self.objective!r}; choose from {', '.join(OBJECTIVES)}"
            )
        if self.parameters not in ("weights", "all"):
            raise InputError(f"parameters is {self.parameters!r}; choose weights or all")
        for name, most in (
            ("timesteps", MOST_TIMESTEPS),
            ("ranges", MOST_TIMESTEPS),
            ("proj_dim", MOST_DIM),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from 1 to {most}")
        if not abs(self.seed) < MOST_NUMBER:
            raise InputError(f"seed is {self.seed}; it must have at most twelve digits")
        if self.timesteps % self.ranges:
            raise InputError(
                f"{self.timesteps} timesteps do not divide into {self.ranges} equal ranges"
            )

    @property
    def paired(self) -> bool:
        """Tell whether pictures meet timestep by timestep, under noise that they share."""
        return self.each_timestep == "paired"

    @property
    def rows_together(self) -> int:
        """Count the timesteps whose gradients are summed while they are made: a range's, or one."""
        return self.timesteps // self.ranges if self.each_timestep == "mean" else 1

    @property
    def dim(self) -> int:
        """Count a feature's numbers."""
        return self.proj_dim * (self.timesteps // self.ranges if self.paired else 1)

    def recorded(self) -> dict:
        """Give what a cache records; younger fields only where they matter, so that older caches stay valid."""
        young = {"each_timestep", "residual", "layers"}
        default = asdict(FeatureConfig())
        return {k: v for k, v in asdict(self).items() if k not in young or v != default[k]}


@dataclass(frozen=True)
class QueryRule:
    """What a method asks of a query."""

    trials: Rule
    objective: Objective | None = None  # None: that of training images
    contrasts: bool = False  # whether it is the difference that words make, as it stands


SAME = QueryRule(same)
PATH = QueryRule(path)
CONTRAST = QueryRule(contrast, concept_loss, contrasts=True)


@dataclass(frozen=True)
class Method:
    """One base method."""

    name: str
    source: str
    objective: str  # a name in OBJECTIVES, for training images
    kernel: Kernel = BLOCK
    each_timestep: str = "mean"  # as in FeatureConfig
    query: QueryRule = SAME
    residual: bool = False  # training features times the root mean square training residual


def loss_method(name: str, source: str, kernel: Kernel = BLOCK, query: QueryRule = SAME) -> Method:
    """Describe a method that takes the training loss's gradient, paired: what noise does to both sides counts.

    A departure from all of the papers, which it serves far better (docs/method.md).
    """
    return Method(name, source, "denoising_loss", kernel, "paired", query)


METHODS = {
    method.name: method
    for method in (
        Method("d-trak", "Zheng et al. 2024, arXiv 2311.00500", "output_square"),
        loss_method("trak", "Park et al. 2023, arXiv 2303.14186"),
        loss_method("tracin", "Pruthi et al. 2020, arXiv 2002.08484", IDENTITY),
        loss_method("journey-trak", "Georgiev et al. 2023, arXiv 2312.06205", query=PATH),
        Method(
            "das",
            "Lin et al. 2025, arXiv 2410.18639",
            "output_mean",
            each_timestep="unit",
            residual=True,
        ),
        loss_method("ekfac", "Mlodozeniec et al. 2024, arXiv 2410.13850", EKFAC),
        # a departure: the paper's training loss follows posterior sampling, here it is the plain one
        loss_method("concept-trak", "Park et al. 2026, arXiv 2507.06547", query=CONTRAST),
    )
}


def method_named(name: str) -> Method:
    """Look a method up by name."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]
