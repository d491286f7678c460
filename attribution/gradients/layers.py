"""Project one layer's per-example gradients without building them.

In: a layer's inputs `a` and output gradients `d`. Out: the projected sum over positions p of d_p a_p^T, of all
positions or of each, or the same projection of a gradient that is given. For inputs and outputs alike a count sketch
folds what is wide, and the block is sketched once more, to `proj_dim`:

    P_out (sum_p d_p a_p^T) P_in^T = sum_p (P_out d_p) (P_in a_p)^T      (LoGra, arXiv 2405.13954, eq. 4)

It knows no network and no autograd.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from attribution.gradients.projection import Sketch, fold, signs, sketch

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
            if isinstance(self.layer, Conv1D):  # its weight is [in, out]
                gradient = gradient.mT
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
