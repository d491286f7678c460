"""Say how much memory features take beside the parameters, from a model that was described and holds no numbers.

Features are made on torch's meta device: each operation gives tensors of the right size without numbers. A tensor's bytes count from
the operation that made it until nothing holds it, forward, backward, under checkpointing and with every layer's tap; the most at
any moment is what a device needs. Attention counts as the fused kernels keep it: its inputs, its output and a number for each row.
What a device's own libraries take (on a GPU some hundred megabytes) and gaps between tensors do not count. It decides nothing.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import FeatureConfig
from attribution.gradients.trials import same
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded


class Counted(TorchDispatchMode):
    """Count the bytes of all tensors of a device that operations make and something still holds.

    What was there before, such as parameters, of which operations make views, does not count.
    """

    def __init__(self, device: str, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.device, self.live, self.peak = device, 0, 0
        self.known = WeakIdKeyDictionary()
        for tensor in before:
            self.known[tensor.untyped_storage()] = True

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operation, and count what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device:
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it goes."""
        if storage in self.known:
            return
        size = storage.nbytes()
        self.known[storage] = True
        weakref.finalize(storage, self.gone, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def gone(self, size: int) -> None:
        """Take off what a storage held."""
        self.live -= size


class _Fused(torch.autograd.Function):
    """Attention as fused kernels keep it: no matrix of all pairs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)  # logarithms of sums
        ctx.save_for_backward(query, key, value, output, rows)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        return tuple(torch.empty_like(each) for each in (query, key, value))


def _fused(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> Tensor:
    return _Fused.apply(query, key, value)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Have attention on the meta device, for which torch has no fused kernel, kept as if it had."""
    kept = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = kept


def parameters_of(model: DiffusionModel) -> Iterator[Tensor]:
    """Give everything that a model holds."""
    for network in model.networks:
        yield from network.parameters()
        yield from network.buffers()


def bytes_beside_parameters(
    model: DiffusionModel, config: FeatureConfig, pictures: int, caption: str, at_once: int = 0
) -> int:
    """Give the most bytes that a batch of pictures takes beside the parameters, with what the projections keep."""
    if at_once:  # as much at any moment as with all timesteps, and told sooner
        at_once, pictures = min(at_once, config.rows_together), 1
        config = replace(config, timesteps=config.ranges * at_once)
    with fused_attention():
        seen = Encoded(model, [Image.new("RGB", model.size)] * pictures)
        seen.conditions([caption])  # encoders' own tensors go before a batch is made
        with Counted(model.device.type, parameters_of(model)) as counted:
            extractor = FeatureExtractor(model, config)
            extractor.at_once = at_once
            rows = pictures * config.timesteps
            noise = torch.empty(rows, *seen.latents.shape[1:], device=model.device)
            trials = same(seen, noise, extractor.timesteps, [caption] * pictures)
            extractor.project(trials, extractor.objective)
    return counted.peak
