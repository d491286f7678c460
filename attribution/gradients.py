"""Take every example's gradient with respect to every layer, projected, in one backward pass.

In: a network, and a closure that runs it on a batch and returns one objective per example. Out: for each
`Linear` and `Conv2d`, each example's projected gradient. Weight gradients are never built: for inputs `a`
and output gradients `d`, with positions p,

    P_out (sum_p d_p a_p^T) P_in^T = sum_p (P_out d_p) (P_in a_p)^T      (LoGra, arXiv 2405.13954, eq. 4)

and `P_in` on a convolution's patches is itself a convolution. It knows nothing of diffusion.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from attribution.errors import InputError
from attribution.projection import gaussian, sketch


class LayerProjection:
    """One layer's two projections and sketch; turns its inputs and output gradients into features."""

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, name: str, side: int, proj_dim: int, seed: int
    ) -> None:
        self.layer = layer
        self.groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        outputs = layer.weight.shape[0] // self.groups
        inputs = layer.weight[0].numel()  # of one group: channels x kernel height x kernel width
        self.into = gaussian(side, inputs, seed, name, "in")  # [k_in, inputs]
        columns = outputs * self.groups
        self.out = gaussian(side, columns, seed, name, "out")  # [k_out, outputs of all groups]
        self.sketch = sketch(len(self.into) * len(self.out), proj_dim, seed, name, "sketch")

    def to(self, device: torch.device) -> None:
        """Move the factors to a device."""
        self.into, self.out = self.into.to(device), self.out.to(device)

    def project_inputs(self, inputs: Tensor) -> Float[Tensor, "batch groups positions k_in"]:
        """Project what entered the layer, per position and group of channels."""
        layer, into = self.layer, self.into.to(inputs.dtype)
        if isinstance(layer, nn.Linear):
            return (inputs.flatten(1, -2) if inputs.ndim > 2 else inputs[:, None])[:, None] @ into.T
        padding = layer.padding
        if layer.padding_mode != "zeros":
            inputs = functional.pad(
                inputs, layer._reversed_padding_repeated_twice, layer.padding_mode
            )
            padding = 0
        kernel = into.view(-1, *layer.weight.shape[1:]).repeat(self.groups, 1, 1, 1)
        patches = functional.conv2d(
            inputs, kernel, None, layer.stride, padding, layer.dilation, self.groups
        )  # [batch, groups * k_in, height, width]
        return patches.flatten(2).unflatten(1, (self.groups, -1)).transpose(2, 3)

    def project_gradients(self, gradients: Tensor) -> Float[Tensor, "batch groups positions k_out"]:
        """Project the objective's gradient with respect to what left the layer."""
        if isinstance(self.layer, nn.Linear):
            flat = gradients.flatten(1, -2) if gradients.ndim > 2 else gradients[:, None]
            return flat[:, None] @ self.out.T.to(gradients.dtype)
        flat = gradients.flatten(2).unflatten(
            1, (self.groups, -1)
        )  # [batch, groups, outputs, positions]
        out = self.out.to(gradients.dtype).unflatten(
            1, (self.groups, -1)
        )  # [k_out, groups, outputs]
        return torch.einsum("bgop,kgo->bgpk", flat, out)

    def combine(self, gradients: Tensor, inputs: Tensor) -> Float[Tensor, "batch proj_dim"]:
        """Sum over positions and groups of channels, then fold by the sketch."""
        block = torch.einsum("bgpk,bgpi->bki", gradients.float(), inputs.float())
        return self.sketch(block.flatten(1))


class GradientProjector:
    """The projections of all layers of a network, drawn once and used for every batch."""

    def __init__(self, network: nn.Module, side: int, proj_dim: int, seed: int) -> None:
        self.network = network
        self.layers = {
            name: LayerProjection(module, name, side, proj_dim, seed)
            for name, module in network.named_modules()
            if isinstance(module, (nn.Linear, nn.Conv2d))
        }
        if not self.layers:
            raise InputError(
                "the network has no Linear or Conv2d layer whose gradient could be taken"
            )
        for layer in self.layers.values():
            layer.to(layer.layer.weight.device)

    def __call__(
        self, objective: Callable[[], Float[Tensor, "batch"]]
    ) -> Float[Tensor, "batch layer proj_dim"]:
        """Run the closure and give each example's projected gradient of its own objective.

        The batch must come first in every layer's input; a layer called several times adds up.
        """
        found: dict[str, Tensor] = {}
        hooks = [
            layer.layer.register_forward_hook(self._listener(name, layer, found))
            for name, layer in self.layers.items()
        ]
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            with torch.enable_grad():
                values = objective()
                values.sum().backward()
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in parameters:
                parameter.requires_grad_(True)
        for name, feature in found.items():
            if len(feature) != len(values):
                raise InputError(
                    f"layer {name} saw {len(feature)} rows in a batch of {len(values)}"
                )
        template = next(iter(found.values()))
        unused = torch.zeros_like(template)
        return torch.stack([found.get(name, unused) for name in self.layers], 1)

    @staticmethod
    def _listener(name: str, layer: LayerProjection, found: dict[str, Tensor]) -> Callable:
        def after_forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            with torch.no_grad():
                projected = layer.project_inputs(inputs[0].detach())
            if (
                not output.requires_grad
            ):  # frozen parameters, and an input that nothing was asked of
                output = output.detach().requires_grad_()

            def after_backward(gradient: Tensor) -> None:
                with torch.no_grad():
                    feature = layer.combine(layer.project_gradients(gradient), projected)
                found[name] = found[name] + feature if name in found else feature

            output.register_hook(after_backward)
            return output

        return after_forward
