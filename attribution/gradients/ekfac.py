"""Precondition a query's exact gradients with the curvature of the training loss, layer by layer.

    (F + damping)^-1 G  ~  Q_S [ (Q_S^T G Q_A) / (Lambda + damping * mean(Lambda)) ] Q_A^T

For a layer's weight gradient G = sum_p d_p a_p^T, with inputs a (a convolution's patches) and output gradients d,
Q_A and Q_S are the eigenvectors of E[a a^T] and E[d d^T], and Lambda is the mean square of single rows' gradients
in their basis (EK-FAC, arXiv 1806.03884, eq. 7; influence in diffusion models: arXiv 2410.13850). Layers are
independent, and their factors are shared by all ranges of timesteps. In: a projector, and closures that run
the network and give one objective per row. Out: factors, and projected preconditioned gradients. It knows
nothing of diffusion.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted
from attribution.gradients.layers import LayerProjection
from attribution.gradients.projector import GradientProjector

Closure = Callable[[], Float[Tensor, "row"]]
FILE = "ekfac.safetensors"
ADVICE = "run the gradients step again with --method ekfac"


@dataclass(frozen=True)
class Factors:
    """The curvature of one layer."""

    outputs: Float[Tensor, "out out"]  # Q_S, a column for each eigenvector
    inputs: Float[Tensor, "in in"]  # Q_A
    eigenvalues: Float[Tensor, "out in"]  # Lambda

    def inverse(self, gradient: Float[Tensor, "out in"], damping: float) -> Tensor:
        """Divide a gradient by the damped curvature."""
        rotated = self.outputs.T @ gradient @ self.inputs
        damped = self.eigenvalues + damping * self.eigenvalues.mean()
        return self.outputs @ (rotated / damped.clamp_min(1e-30)) @ self.inputs.T


class Preconditioner:
    """Makes a query's features: exact gradients, preconditioned, then projected as everything else is."""

    def __init__(
        self, projector: GradientProjector, factors: dict[str, Factors], damping: float
    ) -> None:
        self.projector, self.factors, self.damping = projector, factors, damping
        self.layers = layers_of(projector)
        if {p.names[0] for p in self.layers} != set(factors):
            raise InputError(f"{FILE} has other layers than the model; {ADVICE}")

    def __call__(self, objective: Closure) -> Float[Tensor, "layer proj_dim"]:
        """Give every layer's feature of the sum of the closure's objectives."""
        with _trainable(self.projector.network, self.layers) as weights:
            gradients = torch.autograd.grad(objective().sum(), weights, materialize_grads=True)
        features = []
        for projection, gradient in zip(self.layers, gradients, strict=True):
            factors = self.factors[projection.names[0]]
            solved = factors.inverse(gradient.flatten(1), self.damping)
            features.append(projection.project(solved.view(1, *gradient.shape)))
        return torch.cat(features)


def layers_of(projector: GradientProjector) -> list[LayerProjection]:
    """Give the layers whose curvature can be had, refusing a projector that takes others, too."""
    for projection in projector.projections:
        if len(projection.names) > 1 or not isinstance(projection, LayerProjection):
            raise InputError("EK-FAC knows no biases and no norms; give --parameters weights")
        if projection.groups > 1 or not isinstance(projection.layer, (nn.Linear, nn.Conv2d)):
            raise InputError(
                f"EK-FAC knows no layer such as {projection.names[0]} (grouped, or a Conv1D); "
                "choose another method"
            )
    return projector.projections


@contextmanager
def _trainable(network: nn.Module, layers: list[LayerProjection]) -> Iterator[list[nn.Parameter]]:
    """Let gradients reach the layers' weights, and no other parameter, for a while."""
    before = {parameter: parameter.requires_grad for parameter in network.parameters()}
    weights = [projection.layer.weight for projection in layers]
    try:
        network.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            yield weights
    finally:
        for parameter, needed in before.items():
            parameter.requires_grad_(needed)


def observe(
    projector: GradientProjector, objective: Closure
) -> Iterator[tuple[str, Float[Tensor, "row position in"], Float[Tensor, "row position out"]]]:
    """Run the closure; give each layer's name, inputs and output gradients, all of its calls together."""
    layers, seen = layers_of(projector), []

    def listen(projection: LayerProjection) -> RemovableHandle:
        return projection.layer.register_forward_hook(
            lambda _, inputs, output: seen.append((projection, inputs[0].detach(), output))
        )

    hooks = [listen(projection) for projection in layers]
    try:
        with _trainable(projector.network, layers):
            values = objective()
            for projection, inputs, _ in seen:
                if len(inputs) != len(values):
                    raise InputError(
                        f"EK-FAC cannot tell the rows of layer {projection.names[0]} apart by example; "
                        "choose another method"
                    )
            total = values.sum()
            outputs = [output for _, _, output in seen]
            gradients = torch.autograd.grad(total, outputs, materialize_grads=True)
    finally:
        for hook in hooks:
            hook.remove()
    for projection in layers:
        calls = [
            by_position(projection, inputs, gradient)
            for (called, inputs, _), gradient in zip(seen, gradients, strict=True)
            if called is projection
        ]
        if calls:
            inputs, gradient = (torch.cat(parts, 1) for parts in zip(*calls, strict=True))
            yield projection.names[0], inputs, gradient


def by_position(
    projection: LayerProjection, inputs: Tensor, gradient: Tensor
) -> tuple[Float[Tensor, "row position in"], Float[Tensor, "row position out"]]:
    """Lay out a layer's inputs and output gradients so that sum_p d_p a_p^T is its weight gradient."""
    layer, inputs, gradient = projection.layer, inputs.float(), gradient.float()
    if projection.is_conv:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode)
        patches = functional.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        return patches.mT, gradient.flatten(2).mT
    return tuple(x.reshape(len(x), -1, x.shape[-1]) for x in (inputs, gradient))


def fit_factors(
    projector: GradientProjector, closures: Callable[[], Iterator[Closure]]
) -> dict[str, Factors]:
    """Estimate the curvature in two passes over the same closures: first the bases, then the eigenvalues."""
    layers = {p.names[0]: p.layer.weight.flatten(1) for p in layers_of(projector)}
    moments = {
        name: (weight.new_zeros(len(weight), len(weight)), weight.new_zeros(2 * [weight.shape[1]]))
        for name, weight in layers.items()
    }
    for closure in closures():
        for name, inputs, gradients in observe(projector, closure):
            a, d = inputs.flatten(0, 1), gradients.flatten(0, 1)
            moments[name][0].addmm_(d.T, d)
            moments[name][1].addmm_(a.T, a)
    bases = {
        name: [torch.linalg.eigh(m.double()).eigenvectors.float() for m in moments.pop(name)]
        for name in layers
    }
    values, count = {name: torch.zeros_like(weight) for name, weight in layers.items()}, 0
    for closure in closures():
        rows = 0
        for name, inputs, gradients in observe(projector, closure):
            outputs_basis, inputs_basis = bases[name]
            rotated = (gradients @ outputs_basis).mT @ (inputs @ inputs_basis)
            values[name] += rotated.square().sum(0)
            rows = len(rotated)
        count += rows
    return {name: Factors(*bases[name], values[name] / count) for name in layers}


def save_factors(folder: Path, factors: dict[str, Factors], belongs_to: dict) -> None:
    """Write the factors, bases in half precision, with what they belong to."""
    tensors = {}
    for name, layer in factors.items():
        tensors[f"{name}:outputs"], tensors[f"{name}:inputs"] = (
            layer.outputs.half(),
            layer.inputs.half(),
        )
        tensors[f"{name}:eigenvalues"] = layer.eigenvalues
    write_described(folder / FILE, tensors, belongs_to)


def read_factors(
    folder: Path, belongs_to: dict, projector: GradientProjector
) -> dict[str, Factors]:
    """Read the factors of a folder, refusing those of another model or of other layers."""
    about = read_about(folder / FILE, belongs_to, {}, ADVICE)
    weights = {p.names[0]: p.layer.weight.flatten(1) for p in layers_of(projector)}
    wanted = {}
    for name, weight in weights.items():
        outputs, inputs = weight.shape
        wanted[f"{name}:outputs"] = Wanted(torch.float16, (outputs, outputs), -1.01, 1.01)
        wanted[f"{name}:inputs"] = Wanted(torch.float16, (inputs, inputs), -1.01, 1.01)
        wanted[f"{name}:eigenvalues"] = Wanted(torch.float32, (outputs, inputs), 0.0)
    tensors = read_described(folder / FILE, about, wanted, ADVICE)
    parts = ("outputs", "inputs", "eigenvalues")
    return {
        n: Factors(*(tensors[f"{n}:{part}"].float().to(w.device) for part in parts))
        for n, w in weights.items()
    }
