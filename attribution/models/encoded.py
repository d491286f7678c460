"""Hold pictures as a model sees them, so that each thing is made once, however much is asked of them.

In: a model and pictures. Out: their latents, the noise to add to them, prompts' conditions, and the model's losses
under phrases (attribution/concepts.py). Latents are made when first asked for. It asks nothing itself.
"""

import hashlib
from functools import cached_property

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from attribution.models.conditions import Conditions
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import to_pixels
from attribution.seeds import generator

AT_ONCE = 8  # pictures that are encoded together


class Encoded:
    """Pictures, and what was made of them; `at` gives some of them without making anything anew."""

    def __init__(self, model: DiffusionModel, images: list[Image.Image]) -> None:
        self.model, self.images = model, images
        self.losses: dict[tuple, Float[Tensor, ""]] = {}  # of the first picture, by phrase and draw
        self._conditions: dict[str, Conditions] = {}
        self._noise: dict[tuple, Float[Tensor, "timestep channel height width"]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def at(self, rows: list[int]) -> "Encoded":
        """Give some of the pictures, in any order and as often as named."""
        other = Encoded(self.model, [self.images[row] for row in rows])
        other._conditions, other._noise = self._conditions, self._noise
        other.latents, other.keys = self.latents[rows], [self.keys[row] for row in rows]
        return other

    @cached_property
    def latents(self) -> Float[Tensor, "picture channel height width"]:
        """Encode the pictures."""
        starts = range(0, len(self), AT_ONCE)
        return torch.cat([self.model.latents(self.images[i : i + AT_ONCE]) for i in starts])

    @cached_property
    def keys(self) -> list[str]:
        """Identify the pictures by their pixels at the model's size (SHA-256)."""
        pixels = ((to_pixels(self.images, self.model.size) + 1) * 127.5).round().byte()
        return [hashlib.sha256(p.numpy().tobytes()).hexdigest() for p in pixels]

    def conditions(self, prompts: list[str]) -> Conditions:
        """Encode prompts, those together that are new."""
        if new := [p for p in dict.fromkeys(prompts) if p not in self._conditions]:
            made = self.model.conditions(new)
            self._conditions |= {p: made[row : row + 1] for row, p in enumerate(new)}
        return Conditions.joined([self._conditions[prompt] for prompt in prompts])

    def noise(
        self, seed: int, timesteps: Int[Tensor, "timestep"], shared: bool = False
    ) -> Float[Tensor, "row channel height width"]:
        """Draw noise for every picture and timestep, a picture's rows together.

        It is keyed by seed, picture and timestep, or, where it is shared, by seed and timestep alone.
        """
        steps, keys = tuple(timesteps.tolist()), [""] * len(self) if shared else self.keys
        for key in keys:
            if (seed, key, steps) not in self._noise:
                named = (seed, key) if key else (seed,)
                draws = [generator("noise", *named, step) for step in steps]
                drawn = [torch.randn(self.latents.shape[1:], generator=draw) for draw in draws]
                self._noise[seed, key, steps] = torch.stack(drawn)
        drawn = torch.cat([self._noise[seed, key, steps] for key in keys])
        return drawn.to(self.model.device)
