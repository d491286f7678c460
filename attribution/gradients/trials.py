"""Prepare what the denoiser is tried on: a noisy latent for each picture and timestep, and its target.

In: encoded pictures, noise, timesteps and prompts. Out: `Trials`. What a method asks of a query is a rule:

  same      as a training image: noise on the picture, the target of training
  path      as Journey-TRAK (arXiv 2312.06205): the clean latents that the model has in mind on its way to the
            picture, noised again. A departure from the paper: the way is found by DDIM inversion (arXiv
            2010.02502, eq. 13) under the prompt and without guidance, so that uploads have one, too.
  contrast  as Concept-TRAK (arXiv 2507.06547): the target is what the model gives under no words

It takes no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attribution.models.conditions import Conditions

if TYPE_CHECKING:  # who opens a cache comes by here, and needs no diffusers
    from attribution.models.diffusion import DiffusionModel
    from attribution.models.encoded import Encoded


@dataclass(frozen=True)
class Trials:
    """Rows for the denoiser, a picture's timesteps together."""

    noisy: Float[Tensor, "row channel height width"]
    timesteps: Int[Tensor, "row"]
    conditions: Conditions
    target: Float[Tensor, "row channel height width"]

    def at(self, rows: slice | Int[Tensor, "some"]) -> "Trials":
        """Give some of the rows."""
        return Trials(
            self.noisy[rows], self.timesteps[rows], self.conditions[rows], self.target[rows]
        )

    def predict(self, model: "DiffusionModel") -> Float[Tensor, "row channel height width"]:
        """Run the denoiser."""
        return model.predict(self.noisy, self.timesteps, self.conditions)


Rule = Callable[["Encoded", Tensor, Tensor, list[str]], Trials]


def same(
    seen: "Encoded",
    noise: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "timestep"],
    prompts: list[str],
) -> Trials:
    """Noise each picture at every timestep."""
    clean = seen.latents.repeat_interleave(len(timesteps), 0)
    return _noised(seen, clean, noise, timesteps, prompts)


@torch.no_grad()
def path(
    seen: "Encoded",
    noise: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "timestep"],
    prompts: list[str],
) -> Trials:
    """Noise what the model takes for the clean latents at every timestep of the picture's own path."""
    conditions, schedule = seen.conditions(prompts), seen.model.schedule

    def estimate(state: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        return schedule.estimate(state, seen.model.predict(state, here, conditions), here)

    clean, found = seen.latents, []
    _, direction = estimate(clean, timesteps[:1].expand(len(clean)))
    for timestep in timesteps:  # from the picture up to noise
        here = timestep.expand(len(clean))
        clean, direction = estimate(schedule.add_noise(clean, direction, here), here)
        found.append(clean)
    return _noised(seen, torch.stack(found, 1).flatten(0, 1), noise, timesteps, prompts)


@torch.no_grad()
def contrast(
    seen: "Encoded",
    noise: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "timestep"],
    prompts: list[str],
) -> Trials:
    """Noise each picture; the target is the output under no words."""
    trials = same(seen, noise, timesteps, prompts)
    empty = seen.conditions([""]).repeat(len(noise))
    return replace(trials, target=replace(trials, conditions=empty).predict(seen.model))


def _noised(
    seen: "Encoded", clean: Tensor, noise: Tensor, timesteps: Tensor, prompts: list[str]
) -> Trials:
    rows = timesteps.repeat(len(prompts))
    noisy = seen.model.schedule.add_noise(clean, noise, rows)
    target = seen.model.schedule.target(clean, noise, rows)
    conditions = seen.conditions(prompts).repeat(len(timesteps))
    return Trials(noisy, rows, conditions, target)
