"""Take every example's gradient with respect to every layer, projected, in one backward pass.

In: a network, and a closure that runs it on a batch and returns one objective per row. Out: for each
`Linear`, `Conv2d` and `Conv1D` (transformers' `Linear` with its weight transposed), and, on request, each
bias, `GroupNorm` and `LayerNorm`, each example's projected gradient; an example may own several rows, such as
the timesteps of an image. Weight gradients are never built: for inputs `a` and output gradients `d`, with
positions p,

    P_out (sum_p d_p a_p^T) P_in^T = sum_p (P_out d_p) (P_in a_p)^T      (LoGra, arXiv 2405.13954, eq. 4)

Here `P_in` and `P_out` are count sketches, wide ones, and the block is sketched once more, to `proj_dim`.
Every layer's output passes through a tap with a probe, a zero that the output does not depend on; what
autograd hands the probe as its gradient is the layer's feature. So checkpointing, layers that are called
twice and layers that are never called need no code here. It knows nothing of diffusion.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from attribution.errors import InputError
from attribution.gradients.grid import Grid, cell_parts
from attribution.gradients.layers import LayerProjection, NormProjection
from attribution.models.adapters import is_own


def features_by_cell(
    projection: LayerProjection | NormProjection,
    kept: Tensor,
    gradient: Tensor,
    examples: int,
    grid: Grid,
) -> list[Float[Tensor, "example cell proj_dim"]]:
    """Share the features out among the cells of a grid; the last cell gets what has no place."""
    layer = projection.layer
    channels = len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 1
    channels_first = isinstance(layer, (nn.Conv2d, nn.GroupNorm))
    layout = gradient.shape[2:] if channels_first else gradient.shape[1:-channels]
    share = cell_parts(tuple(layout), grid).to(gradient.device)
    return [share @ each for each in projection.by_position(kept, gradient, examples)]


class _Tap(torch.autograd.Function):
    """Pass a layer's output on; hand each of its probes the layer's feature as gradient.

    The output comes back as a tensor of its own on the same memory: marked dirty, a `Linear`'s would be
    a view whose gradient is copied, and as a view it could not be changed in place (`ReLU(inplace=True)`).
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        output: Tensor,
        kept: Tensor,
        projection: LayerProjection | NormProjection,
        grid: Grid | None,
        *probes: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.projection, ctx.examples, ctx.grid = projection, len(probes[0]), grid
        return output.data

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple:
        (kept,) = ctx.saved_tensors
        device = gradient.device.type
        sums_in_float32 = (
            torch.autocast(device, enabled=False)
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
            else nullcontext()
        )
        with sums_in_float32:
            asked = (kept, gradient, ctx.examples)
            if ctx.grid:
                features = features_by_cell(ctx.projection, *asked, ctx.grid)
            else:
                features = ctx.projection.features(*asked)
        return gradient, None, None, None, *features


class PackedRows(InputError):
    """Say that a layer's rows cannot be told apart by example: run the examples one at a time."""


class _Listener:
    """Taps one layer's output during a call of the projector, with that call's probes."""

    def __init__(self, projection: LayerProjection | NormProjection) -> None:
        self.projection = projection
        self.probes: list[Tensor] = []
        self.grid: Grid | None = None
        self.rows: set[int] = set()  # that it saw in its calls

    def after_forward(
        self, module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> Tensor:
        inputs = given[0] if given else next(iter(named.values()))
        rows, examples = len(inputs), len(self.probes[0])
        if rows % examples:
            name = self.projection.names[0]
            raise PackedRows(
                f"layer {name} saw {rows} rows, which {examples} examples cannot share"
            )
        self.rows.add(rows)
        with torch.no_grad():
            kept = self.projection.keep(inputs.detach())
        return _Tap.apply(output, kept, self.projection, self.grid, *self.probes)


def chosen(layers: str) -> Callable[[str], object]:
    """Tell of a layer's name whether it is asked for: "all", "adapter", or a regular expression searched in it."""
    if layers == "all":
        return lambda _: True
    if layers == "adapter":
        return is_own
    try:
        return re.compile(layers).search
    except re.error as error:
        raise InputError(
            f"layers is {layers!r}, no regular expression ({error}); or give all, or adapter"
        ) from error


class GradientProjector:
    """The projections of all layers of a network, drawn once and used for every batch.

    `parameters` is "weights" (of every Linear, Conv2d and Conv1D) or "all" (their biases, and norms, too); `layers` is
    "all", "adapter" or a regular expression that is searched in their names.
    """

    def __init__(
        self,
        network: nn.Module,
        proj_dim: int,
        seed: int,
        parameters: str = "weights",
        layers: str = "all",
    ) -> None:
        if parameters not in ("weights", "all"):
            raise InputError(f"parameters is {parameters!r}; choose weights or all")
        self.network, self.proj_dim = network, proj_dim
        self.projections: list[LayerProjection | NormProjection] = []
        for name, module in network.named_modules():
            if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
                raise InputError(
                    f"{name or 'the network'} is compiled by torch.compile, under which gradients cannot be tapped; "
                    "give the network as it was before"
                )
        wanted = chosen(layers)
        for name, module in network.named_modules():
            if not wanted(name):
                continue
            if isinstance(module, (nn.Linear, nn.Conv2d, Conv1D)):
                biases = parameters == "all"
                self.projections.append(LayerProjection(module, name, proj_dim, seed, biases))
            elif (
                parameters == "all"
                and isinstance(module, (nn.GroupNorm, nn.LayerNorm))
                and module.weight is not None
            ):
                self.projections.append(NormProjection(module, name, proj_dim, seed))
        if not self.projections:
            among = "" if layers == "all" else f" among its layers {layers!r}"
            raise InputError(
                f"the network has no Linear, Conv2d or Conv1D layer{among} whose gradient could be taken"
            )
        for projection in self.projections:
            projection.to(projection.layer.weight.device)
        self.listeners = [_Listener(projection) for projection in self.projections]
        self.heard = torch.zeros(len(self.layers), dtype=torch.bool)
        self.heard = self.heard.to(self.projections[0].layer.weight.device)

    @property
    def layers(self) -> list[str]:
        """Name what a feature is made for, in order: a layer's weight by the layer's name."""
        return [name for projection in self.projections for name in projection.names]

    @property
    def left_out(self) -> list[str]:
        """Name weights that no gradient is taken of, such as attention's fused ones and a `Conv1d`'s."""
        covered = {id(projection.layer.weight) for projection in self.projections}
        parameters = self.network.named_parameters()
        return [name for name, p in parameters if p.ndim > 1 and id(p) not in covered]

    @property
    def silent(self) -> list[str]:
        """Name layers whose gradient was zero for every example so far."""
        return [
            name for name, heard in zip(self.layers, self.heard.tolist(), strict=True) if not heard
        ]

    def __call__(
        self, objective: Callable[[], Float[Tensor, "row"]], examples: int, grid: Grid | None = None
    ) -> Float[Tensor, "example layer *cell proj_dim"]:
        """Run the closure and give the projected gradient of the sum of each example's objectives.

        Rows come first in every layer's input, an example's rows together; a layer called several times
        adds up, one that is never called gives zeros. With a `grid`, each of its cells has its share of the
        gradient, and one more cell has the share that has no place in the picture.
        """
        device = self.projections[0].layer.weight.device
        cells = (grid.cells,) if grid else ()
        for listener in self.listeners:
            listener.rows, listener.grid = set(), grid
            listener.probes = [
                torch.zeros(examples, *cells, self.proj_dim, device=device, requires_grad=True)
                for _ in listener.projection.names
            ]
        hooks = [
            listener.projection.layer.register_forward_hook(
                listener.after_forward, with_kwargs=True
            )
            for listener in self.listeners
        ]
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        probes = [probe for listener in self.listeners for probe in listener.probes]
        try:
            for parameter in trainable:
                parameter.requires_grad_(False)
            with torch.enable_grad():
                values = objective()
                self._check_rows(values, examples)
                features = torch.autograd.grad(values.sum(), probes, materialize_grads=True)
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in trainable:
                parameter.requires_grad_(True)
        found = torch.stack(features, 1)
        self.heard |= (found != 0).flatten(2).any(2).any(0)
        return found

    def _check_rows(self, values: Tensor, examples: int) -> None:
        """Refuse an objective that is one number, and rows that cannot be told apart by example."""
        if values.ndim != 1 or len(values) % examples:
            raise InputError(
                f"the objective gave the shape {tuple(values.shape)}; one value for each row was expected, an equal "
                f"number for each of {examples} examples, and no mean over them"
            )
        for listener in self.listeners if examples > 1 else ():
            if listener.rows - {len(values)}:
                raise PackedRows(
                    f"layer {listener.projection.names[0]} saw {max(listener.rows)} rows where the objective has "
                    f"{len(values)}; they cannot be told apart by example"
                )
