"""Prepare what the denoiser is tried on: a noisy latent for each picture and timestep, and its target.

In: clean latents, noise, timesteps and prompts. Out: `Trials`. What a method asks of a query is a rule:

  same      as a training image: noise on the picture, the target of training
  path      as Journey-TRAK (arXiv 2312.06205): the clean latents that the model has in mind on its way to the
            picture, noised again. A departure from the paper: the way is found by DDIM inversion (arXiv
            2010.02502, eq. 13) under the prompt and without guidance, so that uploads have one, too.
  contrast  as Concept-TRAK (arXiv 2507.06547): the target is what the model gives under no words

It takes no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.models.diffusion import DiffusionModel


@dataclass(frozen=True)
class Trials:
    """Rows for the denoiser, a picture's timesteps together."""

    noisy: Float[Tensor, "row channel height width"]
    timesteps: Int[Tensor, "row"]
    conditions: Float[Tensor, "row token feature"]
    target: Float[Tensor, "row channel height width"]

    def at(self, rows: slice | Int[Tensor, "some"]) -> "Trials":
        """Give some of the rows."""
        return Trials(
            self.noisy[rows], self.timesteps[rows], self.conditions[rows], self.target[rows]
        )

    def predict(self, model: DiffusionModel) -> Float[Tensor, "row channel height width"]:
        """Run the denoiser."""
        return model.predict(self.noisy, self.timesteps, self.conditions)


Rule = Callable[[DiffusionModel, Tensor, Tensor, Tensor, list[str]], Trials]


def same(
    model: DiffusionModel,
    latents: Float[Tensor, "picture channel height width"],
    noise: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "timestep"],
    prompts: list[str],
) -> Trials:
    """Noise each picture at every timestep."""
    return _noised(model, latents.repeat_interleave(len(timesteps), 0), noise, timesteps, prompts)


@torch.no_grad()
def path(
    model: DiffusionModel,
    latents: Float[Tensor, "picture channel height width"],
    noise: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "timestep"],
    prompts: list[str],
) -> Trials:
    """Noise what the model takes for the clean latents at every timestep of the picture's own path."""
    conditions = model.conditions(prompts)
    clean, found = latents, []
    _, direction = model.estimate(latents, timesteps[:1].expand(len(latents)), conditions)
    for timestep in timesteps:  # from the picture up to noise
        here = timestep.expand(len(latents))
        state = model.add_noise(clean, direction, here)
        clean, direction = model.estimate(state, here, conditions)
        found.append(clean)
    return _noised(model, torch.stack(found, 1).flatten(0, 1), noise, timesteps, prompts)


@torch.no_grad()
def contrast(
    model: DiffusionModel,
    latents: Float[Tensor, "picture channel height width"],
    noise: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "timestep"],
    prompts: list[str],
) -> Trials:
    """Noise each picture; the target is the output under no words."""
    trials = same(model, latents, noise, timesteps, prompts)
    empty = model.conditions([""]).expand(len(noise), -1, -1)
    return replace(trials, target=replace(trials, conditions=empty).predict(model))


def _noised(
    model: DiffusionModel, clean: Tensor, noise: Tensor, timesteps: Tensor, prompts: list[str]
) -> Trials:
    rows = timesteps.repeat(len(prompts))
    noisy = model.add_noise(clean, noise, rows)
    target = model.target(clean, noise, rows)
    conditions = model.conditions(prompts).repeat_interleave(len(timesteps), 0)
    return Trials(noisy, rows, conditions, target)
