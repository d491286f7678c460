"""The one function that makes features, for training images and for queries alike.

In: a model, pictures and prompts. Out: `features [image, group, dim]`, projected gradients averaged over
each range of timesteps; a group is one layer in one range. High noise decides layout, low noise texture,
so the ranges are kept apart.
"""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.collection import to_pixels
from attribution.errors import InputError
from attribution.gradients import GradientProjector
from attribution.methods import OBJECTIVES
from attribution.model import DiffusionModel
from attribution.projection import generator


@dataclass(frozen=True)
class FeatureConfig:
    """What decides a feature, besides model, picture and prompt."""

    objective: str = "output_square"  # a name in methods.OBJECTIVES
    timesteps: int = 10  # evenly spaced over 0 ... T-1
    ranges: int = 2  # consecutive timesteps are averaged in this many groups
    proj_dim: int = 32
    parameters: str = "weights"  # of Linear and Conv2d layers, or "all": biases and norms, too
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(
                f"no objective {self.objective!r}; choose from {', '.join(OBJECTIVES)}"
            )
        for name in ("timesteps", "ranges", "proj_dim"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.timesteps % self.ranges:
            raise InputError(
                f"{self.timesteps} timesteps do not divide into {self.ranges} equal ranges"
            )


class FeatureExtractor:
    """Makes features of one kind with one model; the projections are drawn once."""

    def __init__(self, model: DiffusionModel, config: FeatureConfig) -> None:
        self.model, self.config = model, config
        self.objective = OBJECTIVES[config.objective]
        self.projector = GradientProjector(
            model.pipeline.unet, config.proj_dim, config.seed, config.parameters
        )
        spacing = model.num_timesteps / config.timesteps
        self.timesteps = ((torch.arange(config.timesteps) + 0.5) * spacing).long().to(model.device)

    @property
    def groups(self) -> list[str]:
        """Name every group: the range of timesteps, then the layer; range 0 holds the least noise."""
        return [
            f"{r}:{layer}" for r in range(self.config.ranges) for layer in self.projector.layers
        ]

    def __call__(
        self, images: list[Image.Image], prompts: list[str], batch_size: int = 8, grid: int = 0
    ) -> Float[Tensor, "image group *cell dim"]:
        """Make the features of pictures under prompts, on the CPU, in float32.

        Noise is keyed by (seed, picture, timestep), so that neither batch nor order nor device changes
        a feature (to rounding). With a `grid`, features come in parts that sum to them: one for each of
        grid x grid cells of the picture, row by row, and one for what has no place in it.
        """
        starts = range(0, len(images), batch_size)
        parts = [
            self._batch(images[i : i + batch_size], prompts[i : i + batch_size], grid)
            for i in starts
        ]
        return torch.cat(parts)

    def _batch(self, images: list[Image.Image], prompts: list[str], grid: int) -> Tensor:
        model, config = self.model, self.config
        latents = model.latents(images)
        noise = torch.stack(
            [self._noise(key, latents.shape[1:]) for key in picture_keys(images, model)]
        )
        clean = latents.repeat_interleave(config.timesteps, 0)
        noise = noise.flatten(0, 1).to(model.device)
        timesteps = self.timesteps.repeat(len(images))
        noisy = model.add_noise(clean, noise, timesteps)
        target = model.target(clean, noise, timesteps)
        conditions = model.conditions(prompts).repeat_interleave(config.timesteps, 0)
        gradients = self.projector(  # an example is one range of timesteps of one image
            lambda: self.objective(model.predict(noisy, timesteps, conditions), target),
            examples=len(images) * config.ranges,
            grid=grid,
        )  # [image * range, layer, ..., dim]
        mean = gradients / (config.timesteps // config.ranges)
        return mean.unflatten(0, (len(images), -1)).flatten(1, 2).float().cpu()

    def _noise(self, key: str, shape: torch.Size) -> Tensor:
        steps = [
            torch.randn(shape, generator=generator("noise", self.config.seed, key, int(timestep)))
            for timestep in self.timesteps
        ]
        return torch.stack(steps)


def picture_keys(images: list[Image.Image], model: DiffusionModel) -> list[str]:
    """Identify pictures by their pixels at the model's resolution (SHA-256)."""
    pixels = ((to_pixels(images, model.resolution) + 1) * 127.5).round().byte()
    return [hashlib.sha256(p.numpy().tobytes()).hexdigest() for p in pixels]


def unit(features: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
    """Scale every group of every row to norm one, so that no row dominates; zero stays zero.

    Without it a few rows of huge norm rank first for every query (Xie et al., TMLR 2024).
    """
    return features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12)
