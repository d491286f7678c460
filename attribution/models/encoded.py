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
        other.each, other.keys = ([found[row] for row in rows] for found in (self.each, self.keys))
        return other

    def batches(self, most: int) -> list[list[int]]:
        """Give the pictures' places in batches of one size each."""
        sizes = [self.model.size_for(image) for image in self.images]
        alike = [
            [i for i, other in enumerate(sizes) if other == size] for size in dict.fromkeys(sizes)
        ]
        return [some[i : i + most] for some in alike for i in range(0, len(some), most)]

    @cached_property
    def each(self) -> list[Float[Tensor, "channel height width"]]:
        """Encode every picture, at the size of the nearest shape."""
        found = {}
        for some in self.batches(AT_ONCE):
            images = [self.images[i] for i in some]
            latents = self.model.latents(images, self.model.size_for(images[0]))
            found |= dict(zip(some, latents, strict=True))
        return [found[row] for row in range(len(self))]

    @cached_property
    def latents(self) -> Float[Tensor, "picture channel height width"]:
        """Give the latents of pictures of one size (`batches`)."""
        return torch.stack(self.each)

    @cached_property
    def keys(self) -> list[str]:
        """Identify the pictures by their pixels at their size (SHA-256)."""
        pixels = [to_pixels([each], self.model.size_for(each))[0] for each in self.images]
        seen = [((each + 1) * 127.5).round().byte().numpy() for each in pixels]
        return [hashlib.sha256(each.tobytes()).hexdigest() for each in seen]

    def conditions(self, prompts: list[str]) -> Conditions:
        """Encode prompts, those together that are new."""
        if new := [p for p in dict.fromkeys(prompts) if p not in self._conditions]:
            made = self.model.conditions(new)
            self._conditions |= {p: made[row : row + 1] for row, p in enumerate(new)}
        return Conditions.joined([self._conditions[prompt] for prompt in prompts])

    def noise(
        self, seed: int, timesteps: Int[Tensor, "timestep"], shared: bool = False
    ) -> Float[Tensor, "row channel height width"]:
        """Draw noise for every picture of one size and timestep, a picture's rows together.

        It is keyed by seed, picture and timestep, or, where it is shared, by seed and timestep alone: then it is drawn for
        the largest width and height of all sizes, of which pictures of each size have the upper left.
        """
        steps, keys = tuple(timesteps.tolist()), [""] * len(self) if shared else self.keys
        shape = self.model.noise_shape if shared else self.latents.shape[1:]
        for key in keys:
            if (seed, key, steps, shape) not in self._noise:
                named = (seed, key) if key else (seed,)
                draws = [generator("noise", *named, step) for step in steps]
                drawn = [torch.randn(shape, generator=draw) for draw in draws]
                self._noise[seed, key, steps, shape] = torch.stack(drawn)
        drawn = torch.cat([self._noise[seed, key, steps, shape] for key in keys])
        height, width = self.latents.shape[2:]
        return drawn[..., :height, :width].to(self.model.device)


def in_order(parts: list[Tensor], batches: list[list[int]]) -> Float[Tensor, "picture ..."]:
    """Put what was made of batches into the order of the pictures."""
    places = [place for some in batches for place in some]
    return torch.cat(parts)[torch.tensor(places).argsort()]
