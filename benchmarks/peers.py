"""Run other people's libraries for per-example, per-layer, projected gradients of one denoiser.

In: a `Problem` (a UNet and a batch), the size of a feature and a seed. Out: what was set up once, as a
callable that gives features `[image, layer, proj_dim]`, and the names of the layers that it covers.
An image's gradient is that of the sum of its timesteps' objectives, with respect to a layer's weight.
It knows nothing of our own engine and measures nothing. `benchmarks/requirements.txt` installs the
libraries; each is imported when asked for, so that one that is missing raises ImportError alone.

Every library gets the whole batch at once, its own defaults, and no gradient switched on that its hooks
do not need. The first call may draw or compile what later ones reuse, so it should not be timed. What a
library does not do is not mended: layers that it cannot take are left out and not named.

    naive loop          own code; every layer; a dense Gaussian projection of each weight gradient
    traker              MadryLab, https://github.com/MadryLab/trak; every layer; dense Gaussian
    traker, held        the same, with its projections kept in memory
    bergson             EleutherAI, https://github.com/EleutherAI/bergson; Linear layers on sequences
    dattri LoGra        TRAIS-Lab, https://github.com/TRAIS-Lab/dattri; Linear layers, bias included
    dattri FactGraSS    the same, with its two-stage compression

LogIX (`logix-ai`) is not here: all of its releases ask for Python below 3.11.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

Peer = tuple[Callable[[], Tensor], list[str]]  # features [image, layer, dim]; the layers' names


def objective(
    predict: Callable,
    noisy: Tensor,  # [row, channel, height, width]
    timesteps: Tensor,  # [row]
    conditions: Tensor,  # [row, token, width]
) -> Tensor:
    """Give each row's mean squared prediction, `mean(eps(x_t, t, c)^2)`."""
    return predict(noisy, timesteps, conditions).sample.square().flatten(1).mean(1)


@dataclass(frozen=True)
class Problem:
    """What every engine is given; the network's parameters are frozen between calls."""

    network: UNet2DConditionModel
    noisy: Tensor  # [image * timestep, channel, height, width], image-major
    timesteps: Tensor  # [image * timestep]
    conditions: Tensor  # [image * timestep, token, width]
    images: int
    layers: list[str]  # every Linear and Conv2d, in the order of named_modules()

    @property
    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is called with, in its order."""
        return self.noisy, self.timesteps, self.conditions

    def objective(self, rows: slice = slice(None)) -> Tensor:
        """Give the objective of each of these rows."""
        return objective(self.network, *(part[rows] for part in self.batch))

    def weight(self, layer: str) -> nn.Parameter:
        """Give a layer's weight."""
        return self.network.get_submodule(layer).weight

    def linear(self) -> list[str]:
        """Name the Linear layers."""
        modules = dict(self.network.named_modules())
        return [name for name in self.layers if isinstance(modules[name], nn.Linear)]

    def sum_timesteps(self, features: Tensor) -> Tensor:
        """Add up the features of an image's rows: [row, layer, dim] -> [image, layer, dim]."""
        return features.unflatten(0, (self.images, -1)).sum(1)


@contextmanager
def trainable(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Ask for the gradients of frozen parameters, and freeze them again."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def side_of(proj_dim: int) -> int:
    """Give the side of the square block that a factorised projection makes."""
    side = math.isqrt(proj_dim)
    if side**2 != proj_dim:
        raise ValueError(f"proj_dim is {proj_dim}; a factorised projection needs a square number")
    return side


def naive(problem: Problem, proj_dim: int, seed: int) -> Peer:
    """Take one image's weight gradients after another, and multiply each by a dense Gaussian."""
    weights = [problem.weight(layer) for layer in problem.layers]
    widest = max(weight.numel() for weight in weights)
    # A matrix per layer would be 4 bytes x proj_dim x all weights, more than the memory at hand, and
    # drawing them anew for each batch takes several times as long as all else. Layers' features are
    # never mixed, so one draw, as large as the largest layer, serves all: the plainest fast thing.
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(widest, proj_dim, generator=generator).div_(proj_dim**0.5)
    rows = len(problem.noisy) // problem.images

    def features() -> Tensor:
        gradients = []  # of each image: of each layer: [weights]
        for start in range(0, len(problem.noisy), rows):
            with trainable(weights):
                value = problem.objective(slice(start, start + rows)).sum()
                gradients.append([g.flatten() for g in torch.autograd.grad(value, weights)])
        # All images at once, else the projection would be read from memory once an image.
        layers = [torch.stack(images) for images in zip(*gradients, strict=True)]
        return torch.stack([g @ projection[: g.shape[1]] for g in layers], 1)

    return features, problem.layers


def traker(problem: Problem, proj_dim: int, seed: int, held: bool = False) -> Peer:
    """Run TRAK's `FunctionalGradientComputer` (vmap of grad) and one `BasicProjector` a layer.

    `TRAKer` itself projects all gradients to one vector; its parts are public, so each layer gets a
    projector of its own here: the kind and the block size that `TRAKer` chooses on a CPU, which draw
    the projection anew in blocks of columns for each batch. With `held`, one block is as wide as the
    projection, so that it is drawn once, and layers of one size share it, so that it fits.
    """
    from trak.gradient_computers import FunctionalGradientComputer
    from trak.modelout_functions import AbstractModelOutput
    from trak.projectors import BasicProjector, ProjectionType

    class SumOfTimesteps(AbstractModelOutput):
        """One image's objective: an example may be any tensor, so it is all of its timesteps."""

        def __init__(self) -> None:
            pass

        @staticmethod
        def get_output(model: nn.Module, weights: dict, buffers: dict, *image: Tensor) -> Tensor:
            predict = partial(torch.func.functional_call, model, (weights, buffers))
            return objective(lambda *inputs: predict(inputs), *image).sum()

        def get_out_to_loss_grad(self, *_: object) -> Tensor:
            return torch.ones(problem.images, 1)

    names = [f"{layer}.weight" for layer in problem.layers]
    sizes = [problem.weight(layer).numel() for layer in problem.layers]
    computer = FunctionalGradientComputer(
        model=problem.network,
        task=SumOfTimesteps(),
        grad_dim=sum(sizes),
        dtype=torch.float32,
        device="cpu",
        grad_wrt=names,
    )
    images = [part.unflatten(0, (problem.images, -1)) for part in problem.batch]
    blocks = {"block_size": proj_dim} if held else {}
    projectors: dict[int, BasicProjector] = {}
    for place, size in enumerate(sizes):
        key = size if held else place
        if key not in projectors:
            projectors[key] = BasicProjector(
                grad_dim=size,
                proj_dim=proj_dim,
                seed=seed + 100_000 * place,
                proj_type=ProjectionType.normal,
                device="cpu",
                **blocks,
            )
        if projectors[key].num_blocks > 1:  # it draws them anew anyway
            projectors[key].free_memory()

    def features() -> Tensor:
        # vmap warns that it runs the fused attention once an image; the unfused one is slower here.
        gradients = computer.compute_per_sample_grad(images)
        found = []
        for place, (name, size) in enumerate(zip(names, sizes, strict=True)):
            projector = projectors[size if held else place]
            found.append(projector.project(gradients.pop(name).flatten(1), model_id=0))
            if projector.num_blocks > 1:
                projector.free_memory()
        return torch.stack(found, 1) / proj_dim**0.5

    return features, problem.layers


def bergson(problem: Problem, proj_dim: int, seed: int) -> Peer:
    """Run bergson's hooks: a two-sided projection, `side x side`, of each layer's gradient.

    Its table of layers names Conv2d, but its hooks assert inputs of [row, position, width], so the
    convolutions and the Linear layers of the timestep embedding are left out. Its own driver reads
    token data sets, so the collector that it runs inside a Trainer is used. Rows are summed after.
    """
    from bergson.collector.gradient_collectors import StreamingGradientCollector
    from bergson.gradients import GradientProcessor

    covered = layers_on_sequences(problem)
    processor = GradientProcessor(projection_dim=side_of(proj_dim), projection_seed=seed)
    with trainable([problem.weight(covered[0])]):  # from which it reads the gradients' dtype
        collector = StreamingGradientCollector(
            model=problem.network,
            target_modules=set(covered),
            processor=processor,
            dtype=torch.float32,
        )

    def features() -> Tensor:
        # It freezes the model and asks for the gradient of the input embeddings; ours are these.
        batch = replace(
            problem,
            noisy=problem.noisy.detach().requires_grad_(),
            conditions=problem.conditions.detach().requires_grad_(),
        )
        with collector.with_batch():
            batch.objective().sum().backward()
        found = torch.stack([collector.mod_grads[layer] for layer in covered], 1)
        collector.mod_grads.clear()
        return problem.sum_timesteps(found)

    return features, covered


def layers_on_sequences(problem: Problem) -> list[str]:
    """Name the Linear layers that are called with [row, position, width]."""
    dimensions: dict[str, int] = {}
    hooks = [
        problem.network.get_submodule(layer).register_forward_pre_hook(
            lambda _, inputs, layer=layer: dimensions.update({layer: inputs[0].ndim})
        )
        for layer in problem.linear()
    ]
    try:
        with torch.no_grad():
            problem.objective(slice(1))
    finally:
        for hook in hooks:
            hook.remove()
    return [layer for layer in problem.linear() if dimensions[layer] == 3]


def dattri(problem: Problem, proj_dim: int, seed: int, blowup: int | None = None) -> Peer:
    """Run dattri's hooks with LoGra's settings, or FactGraSS's where a blow-up is given.

    These are what `LoGraAttributor` and `FactGraSSAttributor` hand to their common parts; the
    attributors would add a cache of the features. FactGraSS's sparse second stage needs CUDA; on a
    CPU dattri makes it a dense Gaussian, drawn anew for each batch. A layer's bias counts as one more
    column of its weight, which cannot be switched off. Rows are summed after.
    """
    from dattri.algorithm.block_projected_if.core.compressor import setup_model_compressors
    from dattri.algorithm.block_projected_if.core.hook import HookManager

    # Once bergson is imported, which turns logging on, its hooks would print three lines a call.
    logging.getLogger("dattri").setLevel(logging.WARNING)
    covered = problem.linear()
    kept = side_of(proj_dim * (blowup or 1))
    first, second, final = (
        ("random_mask", "normal", proj_dim) if blowup else ("normal", "identity", -1)
    )
    common = {"device": "cpu", "proj_max_batch_size": 64, "proj_seed": seed}
    compressors = setup_model_compressors(
        problem.network,
        covered,
        sparsifier_kwargs={**common, "proj_dim": kept, "proj_type": first},
        projector_kwargs={**common, "proj_dim": final, "proj_type": second},
        sample_inputs={
            "sample": problem.noisy,
            "timestep": problem.timesteps,
            "encoder_hidden_states": problem.conditions,
        },
    )
    weights = [problem.weight(layer) for layer in covered]

    def features() -> Tensor:
        manager = HookManager(problem.network, covered)
        manager.set_compressors(compressors)
        try:
            with trainable(weights):  # asked for, so that its backward is called; never built
                problem.objective().mean().backward()  # its compressor multiplies by the rows
            found = torch.stack(manager.get_compressed_grads(), 1)
        finally:
            manager.remove_hooks()
            for layer in covered:  # it leaves the old forward as an attribute of the module
                vars(problem.network.get_submodule(layer)).pop("forward", None)
        return problem.sum_timesteps(found)

    features()  # compiles its compressors, with g++; more layers than dynamo's limit stay eager
    return features, covered


PEERS: dict[str, Callable[[Problem, int, int], Peer]] = {
    "naive loop": naive,
    "traker": traker,
    "traker, held": partial(traker, held=True),
    "bergson": bergson,
    "dattri LoGra": dattri,
    "dattri FactGraSS": partial(dattri, blowup=4),  # its default
}
