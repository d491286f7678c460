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

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from attribution.errors import InputError
from attribution.grid import shares
from attribution.projection import Sketch, fold, signs, sketch

OVERSAMPLING = 16  # a layer's channels are folded only to a block of so many times proj_dim ...
SIDE = 32  # ... to no fewer channels than this, ...
SHRINK = 8  # ... nor to less than this part of them, and ...
WORTH = 0.6  # ... only if it takes less than this share of the multiplications
TAP_OVERSAMPLING = 4  # a kernel's taps are summed, with signs, to a block of so many times proj_dim


def folded_sides(outputs: int, inputs: int, taps: int, proj_dim: int) -> tuple[int, int]:
    """Choose to how many channels the two sides of a layer are folded, by multiplications per position.

    Folding both sides to sqrt(proj_dim), as LoGra does, loses most where a layer's examples are alike;
    a side that is kept whole loses nothing.
    """

    def sizes(channels: int) -> list[int]:
        powers = (SIDE << power for power in range(20))
        return [channels, *(n for n in powers if channels / SHRINK <= n < channels)]

    def work(out: int, into: int) -> int:
        folding = (outputs * out if out < outputs else 0) + (inputs * into if into < inputs else 0)
        return out * into * taps + folding

    smallest = min(OVERSAMPLING * proj_dim, outputs * inputs * taps)
    options = [(a, b) for a in sizes(outputs) for b in sizes(inputs) if a * b * taps >= smallest]
    best = min(options, key=lambda option: work(*option))
    return best if work(*best) < WORTH * work(outputs, inputs) else (outputs, inputs)


def tap_kernel(
    layer: nn.Conv2d, channels: int, proj_dim: int, *key: object
) -> Float[Tensor, "channels_and_sets 1 height width"]:
    """Make the depthwise kernel that sums a convolution's taps with signs, in as few sets as will do.

    The sets are: all taps in one, the kernel's rows, or each tap on its own.
    """
    height, width = layer.kernel_size
    block = layer.out_channels * channels // layer.groups
    smallest = min(TAP_OVERSAMPLING * proj_dim, block * height * width)
    sets = next(s for s in (1, height, height * width) if block * s >= smallest)
    member = torch.eye(sets).repeat_interleave(height * width // sets, 1)  # [set, tap]
    count = channels * height * width
    sign = signs(count, *key) if sets < height * width else torch.ones(count)
    return (sign.view(channels, 1, -1) * member).reshape(channels * sets, 1, height, width)


class LayerProjection:
    """The projection of one `Linear`, `Conv2d` or `Conv1D`: what is kept of its inputs, and the features."""

    def __init__(
        self,
        layer: nn.Linear | nn.Conv2d | Conv1D,
        name: str,
        proj_dim: int,
        seed: int,
        biases: bool,
    ) -> None:
        self.layer, self.is_conv = layer, isinstance(layer, nn.Conv2d)
        self.groups = layer.groups if self.is_conv else 1
        transposed = isinstance(layer, Conv1D)
        outputs, inputs = layer.weight.mT.shape if transposed else layer.weight.shape[:2]
        self.into = self.out = self.taps = None
        key, taps = (seed, name), 1
        if self.is_conv:
            self.taps = tap_kernel(layer, inputs * self.groups, proj_dim, *key, "taps")
            taps = len(self.taps) // (inputs * self.groups)
        if self.groups == 1:
            k_out, k_in = folded_sides(outputs, inputs, taps, proj_dim)
            self.into = fold(k_in, inputs, *key, "in") if k_in < inputs else None
            self.out = fold(k_out, outputs, *key, "out") if k_out < outputs else None
            outputs, inputs = k_out, k_in
        if self.is_conv:
            unpadded = layer.padding in ((0, 0), "same", "valid")
            if unpadded and layer.kernel_size == layer.stride == (1, 1):
                self.taps = None
            else:
                self.taps = self.taps[: inputs * self.groups * taps]
        self.sets = taps
        self.sketch = sketch(outputs, inputs * taps, proj_dim, *key, "sketch")
        self.names, self.sketches = [name], [self.sketch]
        if biases and layer.bias is not None:
            self.names.append(f"{name}.bias")
            self.sketches.append(sketch(1, len(layer.bias), proj_dim, *key, "bias"))

    def to(self, device: torch.device) -> None:
        """Move the factors to a device."""
        for factor in ("into", "out", "taps"):
            if getattr(self, factor) is not None:
                setattr(self, factor, getattr(self, factor).to(device))
        for each in self.sketches:
            each.to(device)

    def keep(self, inputs: Tensor) -> Tensor:
        """Give what the backward pass needs: a convolution's inputs, which autograd keeps anyway, or less."""
        if self.is_conv or self.into is None:
            return inputs
        return inputs @ self.into.T.to(inputs.dtype)

    def _convolved(self, inputs: Tensor) -> Tensor:
        """Fold a convolution's input channels and sum its taps: `[row, k_in, ...]`, positions last."""
        layer = self.layer
        if self.into is not None:
            inputs = functional.conv2d(inputs, self.into[:, :, None, None].to(inputs.dtype))
        if self.taps is None:
            return inputs
        padding, own = layer.padding, self.sets == self.taps[0].numel() > 1
        if layer.padding_mode != "zeros" or (own and isinstance(padding, str)):
            margins, padding = layer._reversed_padding_repeated_twice, 0
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            inputs = functional.pad(inputs, margins, mode)
        if own:  # each tap on its own: nothing is summed
            return functional.unfold(
                inputs, layer.kernel_size, layer.dilation, padding, layer.stride
            )
        kernel, channels = self.taps.to(inputs.dtype), inputs.shape[1]
        return functional.conv2d(
            inputs, kernel, None, layer.stride, padding, layer.dilation, channels
        )

    def features(
        self, kept: Tensor, gradient: Tensor, examples: int
    ) -> list[Float[Tensor, "example proj_dim"]]:
        """Contract inputs with output gradients over rows and positions of each example, and sketch."""
        if self.is_conv:
            gradient = gradient.flatten(2)
            # Several sets of taps are several times as large as the inputs: one example at a time.
            pieces = examples if self.sets > 1 else 1
            blocks = [
                self._contract_images(self._convolved(a).flatten(2), d, examples // pieces)
                for a, d in zip(kept.chunk(pieces), gradient.chunk(pieces), strict=True)
            ]
            block = blocks[0] if pieces == 1 else torch.cat(blocks)
        else:
            d = gradient.reshape(examples, -1, gradient.shape[-1]).float()
            d = d if self.out is None else d @ self.out.T
            a = kept.reshape(examples, -1, kept.shape[-1]).float()
            # The narrow side first is faster, and the block's order is free.
            block = a.mT @ d if a.shape[-1] < d.shape[-1] else d.mT @ a
        features = [self.sketch(block.flatten(1))]
        if len(self.names) > 1:
            total = gradient.float().sum(2) if self.is_conv else gradient.float()
            total = total.reshape(examples, -1, total.shape[-1]).sum(1)
            features.append(self.sketches[1](total))
        return features

    def project(
        self, gradient: Float[Tensor, "example out *rest"]
    ) -> Float[Tensor, "example proj_dim"]:
        """Project weight gradients that were built, as `features` does those that never are."""
        if self.is_conv:
            block = gradient.flatten(3)  # [example, out, in, tap]
            if self.into is not None:
                block = torch.einsum("eoct,kc->eokt", block, self.into)
            if self.taps is not None:
                taps = self.taps.flatten(1).view(self.groups, block.shape[2], self.sets, -1)
                block = torch.einsum(
                    "egoct,gcst->egocs", block.unflatten(1, (self.groups, -1)), taps
                )
                block = block.flatten(1, 2)
            block = block.flatten(2)
        else:
            block = gradient if self.into is None else gradient @ self.into.T
        if self.out is not None:
            block = self.out @ block
        if not self.is_conv and block.shape[2] < block.shape[1]:
            block = block.mT
        return self.sketch(block.flatten(1))

    def _contract_images(
        self, a: Float[Tensor, "row k_in p"], d: Float[Tensor, "row outputs p"], examples: int
    ) -> Float[Tensor, "example block"]:
        if self.out is not None:
            d = functional.conv1d(d, self.out[:, :, None].to(d.dtype))
        a, d = (x.float().unflatten(0, (examples, -1)) for x in (a, d))  # [example, row, ...]
        if self.groups > 1:
            a, d = (x.unflatten(2, (self.groups, -1)).transpose(1, 2).flatten(0, 1) for x in (a, d))
        block = torch.bmm(d[:, 0], a[:, 0].mT)
        for row in range(1, d.shape[1]):  # in place: a block for each row would not fit a cache
            block.baddbmm_(d[:, row], a[:, row].mT)
        return block.reshape(examples, -1)

    def by_position(
        self, kept: Tensor, gradient: Tensor, examples: int
    ) -> list[Float[Tensor, "example position proj_dim"]]:
        """Give `features` before the sum over positions."""
        if self.is_conv:
            kept, gradient = self._convolved(kept).flatten(2).mT, gradient.flatten(2).mT
        a, total = (
            x.reshape(examples, len(x) // examples, -1, x.shape[-1]).float()
            for x in (kept, gradient)
        )  # [example, row, position, channel]
        d = total if self.out is None else total @ self.out.T
        if not self.is_conv and a.shape[-1] < d.shape[-1]:  # the block's order in `features`
            a, d = d, a
        a, d = (x.unflatten(-1, (self.groups, -1)) for x in (a, d))
        block = torch.einsum("erpgo,erpgi->epgoi", d, a).flatten(2)
        parts = [block, total.sum(1)][: len(self.names)]
        return sketch_positions(self.sketches, parts)


def sketch_positions(
    sketches: list[Sketch], parts: list[Float[Tensor, "example position _"]]
) -> list[Float[Tensor, "example position proj_dim"]]:
    """Sketch the numbers of every position."""
    return [
        each(part.flatten(0, 1)).unflatten(0, part.shape[:2])
        for each, part in zip(sketches, parts, strict=True)
    ]


class NormProjection:
    """The projection of a `GroupNorm` or `LayerNorm`: gradients of its scale and its shift."""

    def __init__(
        self, layer: nn.GroupNorm | nn.LayerNorm, name: str, proj_dim: int, seed: int
    ) -> None:
        self.layer = layer
        self.names = [f"{name}.weight"] + ([f"{name}.bias"] if layer.bias is not None else [])
        size = layer.weight.numel()
        self.sketches = [sketch(1, size, proj_dim, seed, name) for name in self.names]

    def to(self, device: torch.device) -> None:
        """Move the sketches to a device."""
        for each in self.sketches:
            each.to(device)

    def keep(self, inputs: Tensor) -> Tensor:
        """Give the inputs, which autograd keeps anyway."""
        return inputs

    def features(
        self, kept: Tensor, gradient: Tensor, examples: int
    ) -> list[Float[Tensor, "example proj_dim"]]:
        """Sum d * normalised input, and d, over rows and positions of each example."""
        return [
            each(part.sum(1).unflatten(0, (examples, -1)).sum(1))
            for each, part in zip(self.sketches, self._parts(kept, gradient), strict=True)
        ]

    def by_position(
        self, kept: Tensor, gradient: Tensor, examples: int
    ) -> list[Float[Tensor, "example position proj_dim"]]:
        """Give `features` before the sum over positions."""
        parts = self._parts(kept, gradient)
        return sketch_positions(
            self.sketches, [part.unflatten(0, (examples, -1)).sum(1) for part in parts]
        )

    def _parts(self, kept: Tensor, gradient: Tensor) -> list[Float[Tensor, "row position size"]]:
        layer, kept = self.layer, kept.float()
        if isinstance(layer, nn.GroupNorm):
            normalised = functional.group_norm(kept, layer.num_groups, eps=layer.eps)
        else:
            normalised = functional.layer_norm(kept, layer.normalized_shape, eps=layer.eps)
        parts = [gradient.float() * normalised, gradient.float()][: len(self.names)]
        if isinstance(layer, nn.GroupNorm):
            return [part.flatten(2).mT for part in parts]
        return [part.reshape(len(part), -1, layer.weight.numel()) for part in parts]


def features_by_cell(
    projection: LayerProjection | NormProjection,
    kept: Tensor,
    gradient: Tensor,
    examples: int,
    grid: int,
) -> list[Float[Tensor, "example cell proj_dim"]]:
    """Share the features out among the cells of a grid; the last cell gets what has no place."""
    layer = projection.layer
    channels = len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 1
    channels_first = isinstance(layer, (nn.Conv2d, nn.GroupNorm))
    layout = gradient.shape[2:] if channels_first else gradient.shape[1:-channels]
    share = shares(tuple(layout), grid).to(gradient.device)
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
        *probes: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.projection, ctx.examples = projection, len(probes[0])
        ctx.grid = math.isqrt(probes[0].shape[1]) if probes[0].ndim == 3 else 0
        return output.data

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple:
        (kept,) = ctx.saved_tensors
        device = gradient.device.type
        sums_in_float32 = (
            torch.autocast(device, enabled=False)
            if torch.is_autocast_enabled(device)
            else nullcontext()
        )
        with sums_in_float32:
            asked = (kept, gradient, ctx.examples)
            if ctx.grid:
                features = features_by_cell(ctx.projection, *asked, ctx.grid)
            else:
                features = ctx.projection.features(*asked)
        return gradient, None, None, *features


class _Listener:
    """Taps one layer's output during a call of the projector, with that call's probes."""

    def __init__(self, projection: LayerProjection | NormProjection) -> None:
        self.projection = projection
        self.probes: list[Tensor] = []

    def after_forward(
        self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        rows, examples = len(inputs[0]), len(self.probes[0])
        if rows % examples:
            name = self.projection.names[0]
            raise InputError(
                f"layer {name} saw {rows} rows, which {examples} examples cannot share"
            )
        with torch.no_grad():
            kept = self.projection.keep(inputs[0].detach())
        return _Tap.apply(output, kept, self.projection, *self.probes)


class GradientProjector:
    """The projections of all layers of a network, drawn once and used for every batch.

    `parameters` is "weights" (of every Linear, Conv2d and Conv1D) or "all" (their biases, and norms, too).
    """

    def __init__(
        self, network: nn.Module, proj_dim: int, seed: int, parameters: str = "weights"
    ) -> None:
        if parameters not in ("weights", "all"):
            raise InputError(f"parameters is {parameters!r}; choose weights or all")
        self.network, self.proj_dim = network, proj_dim
        self.projections: list[LayerProjection | NormProjection] = []
        for name, module in network.named_modules():
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
            raise InputError(
                "the network has no Linear, Conv2d or Conv1D layer whose gradient could be taken"
            )
        for projection in self.projections:
            projection.to(projection.layer.weight.device)
        self.listeners = [_Listener(projection) for projection in self.projections]

    @property
    def layers(self) -> list[str]:
        """Name what a feature is made for, in order: a layer's weight by the layer's name."""
        return [name for projection in self.projections for name in projection.names]

    def __call__(
        self, objective: Callable[[], Float[Tensor, "row"]], examples: int, grid: int = 0
    ) -> Float[Tensor, "example layer *cell proj_dim"]:
        """Run the closure and give the projected gradient of the sum of each example's objectives.

        Rows come first in every layer's input, an example's rows together; a layer called several times
        adds up, one that is never called gives zeros. With a `grid`, each of its grid x grid cells has its
        share of the gradient, and one more cell has the share that has no place in the picture.
        """
        device = self.projections[0].layer.weight.device
        cells = (grid * grid + 1,) if grid else ()
        for listener in self.listeners:
            listener.probes = [
                torch.zeros(examples, *cells, self.proj_dim, device=device, requires_grad=True)
                for _ in listener.projection.names
            ]
        hooks = [
            listener.projection.layer.register_forward_hook(listener.after_forward)
            for listener in self.listeners
        ]
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        probes = [probe for listener in self.listeners for probe in listener.probes]
        try:
            for parameter in trainable:
                parameter.requires_grad_(False)
            with torch.enable_grad():
                values = objective()
                features = torch.autograd.grad(values.sum(), probes, materialize_grads=True)
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in trainable:
                parameter.requires_grad_(True)
        return torch.stack(features, 1)
