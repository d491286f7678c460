"""Step a network's matrices by Muon and its vectors by AdamW (torch's own), with one learning rate.

Muon (Jordan et al. 2024) trained the autoencoder much faster than AdamW alone in a short trial. Torch's
takes matrices only, so each convolution's kernel is seen as one, in the same memory.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def has_bfloat16() -> bool:
    """Say whether this processor calculates in bfloat16; one that only imitates it takes five times as long."""
    found = torch.cpu.get_capabilities()
    return found.get("avx512_bf16", False) or found.get("amx_bf16", False)


class InFloat32(TorchFunctionMode):
    """Keep to single precision what would be cast to bfloat16, as Muon does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        """Copy instead of casting; all else is as it is."""
        if func is Tensor.bfloat16:
            return args[0].clone()
        return func(*args, **(kwargs or {}))


class MatrixOptimizer:
    """Hold the two optimizers of one network, and give their state as named tensors."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.parameters = list(network.parameters())
        embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
        self.kernels = [p for p in self.parameters if p.ndim > 1 and id(p) not in embeddings]
        vectors = [p for p in self.parameters if p.ndim == 1 or id(p) in embeddings]
        self.matrices = [nn.Parameter(p.detach().flatten(1)) for p in self.kernels]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                self.matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(vectors, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0),
        ]

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """Go down the gradient of a loss, clipped to norm one."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        with nullcontext() if has_bfloat16() else InFloat32():
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = learning_rate
                optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Give a copy of the state, named `optimizer.parameter.key`."""
        return {
            f"{number}.{index}.{key}": value.clone()
            for number, optimizer in enumerate(self.optimizers)
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take a state given by `state` back."""
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        for name, value in tensors.items():
            number, index, key = name.split(".")
            states[int(number)].setdefault(int(index), {})[key] = value
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
