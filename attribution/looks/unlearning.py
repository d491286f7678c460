"""Ask what the model would draw without some training images, by unlearning them in seconds.

In: a model, its collection and the rows to remove. Out: a copy that was pushed away from them, or a `WhatIf`: the same
prompt and seed drawn before, after, and after the same push away from as many random images. A few steps go up the
removed images' denoising loss and down that of others (NegGrad+, arXiv 2302.09880), in the keys and values of
cross-attention alone (as in arXiv 2406.09408). This is no retraining: it shows what the model loses together with
these images, in a push that is stronger than their true absence from a large collection. It knows no scores.
"""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.concepts import denoising_losses
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel, copy_of, moving_names
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection, to_pixels
from attribution.progress import OnStep
from attribution.seeds import generator

MOST = 500  # images that can be removed at once
ENCODED_AT_ONCE = 32
DRAWING = 25  # steps of a picture
FORGETTING = 13  # of them take as long as a step of unlearning, for the progress
FIXED_SEED = 0  # of pictures whose own seed is not known


@dataclass(frozen=True)
class UnlearnConfig:
    """How a model is unlearned; chosen on pictures that no figure is reported of."""

    steps: int = 20
    batch_size: int = 16  # removed images in a step, and as many others
    learning_rate: float = 1e-3
    away: float = 0.5  # share of the loss that leads away from the removed images
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 < self.away < 1:
            raise InputError(f"away is {self.away}; it must lie between 0 and 1")


@dataclass(frozen=True)
class WhatIf:
    """A prompt and seed drawn before and after unlearning, and with random images unlearned."""

    prompt: str
    seed: int
    seed_known: (
        bool  # if not, all three pictures were drawn with a seed that is not the picture's own
    )
    before: Image.Image
    after: Image.Image
    control: Image.Image
    loss_before: float  # the picture's denoising loss under the prompt
    loss_after: float
    loss_control: float
    picture_after: float  # root mean square difference from `before`, in [0, 1]
    picture_control: float
    rows: list[int]  # removed
    control_rows: list[int]  # removed at random instead
    seconds: float


def what_if(
    model: DiffusionModel,
    collection: Collection,
    prompt: str,
    rows: list[int | float],
    seed: int | None = None,
    image: Image.Image | None = None,
    config: UnlearnConfig | None = None,
    on_step: OnStep | None = None,
) -> WhatIf:
    """Draw a prompt and seed with a model that unlearned some training images, and with a control.

    Losses are of `image`, such as an upload, or of the picture drawn before. Without a seed, pictures are drawn
    with a fixed one. `on_step(done, total)` counts in steps of drawing. The control unlearns as many random others, with the same steps and noise. What `on_step`
    raises stops all; the model is never changed.
    """
    config, started, done = config or UnlearnConfig(), time.monotonic(), 0
    rows, used = removable(rows, collection), FIXED_SEED if seed is None else seed
    total = 3 * DRAWING + 2 * config.steps * FORGETTING

    def tick(steps: int) -> None:
        nonlocal done
        done += steps
        if on_step:
            on_step(done, total)

    def forget(*_: int) -> None:
        tick(FORGETTING)

    def look(drawing: DiffusionModel) -> tuple[Image.Image, float]:
        [drawn] = drawing.generate([prompt], [used], DRAWING, on_step=lambda *_: tick(1))
        seen = Encoded(drawing, [image or drawn])
        return drawn, denoising_losses(seen, [prompt]).mean().item()

    before, loss_before = look(copy_of(model))
    image = image or before
    rest = others(rows, collection)
    order = torch.randperm(len(rest), generator=generator("control", config.seed))
    control_rows = rest[order[: len(rows)]].sort().values.tolist()
    after, loss_after = look(unlearn(model, collection, rows, config, forget))
    control, loss_control = look(unlearn(model, collection, control_rows, config, forget))
    return WhatIf(
        prompt, used, seed is not None, before, after, control,
        loss_before, loss_after, loss_control, difference(before, after), difference(before, control),
        rows, control_rows, round(time.monotonic() - started, 1),
    )  # fmt: skip


def unlearn(
    model: DiffusionModel,
    collection: Collection,
    rows: list[int | float],
    config: UnlearnConfig | None = None,
    on_step: OnStep | None = None,
) -> DiffusionModel:
    """Give a copy of a model that was pushed away from some training images and held to the others.

    Each step goes down (1 - a) L(others) - a min(L(removed), L(nothing)), by Adam. L(nothing), the loss of predicting
    zero, is this project's bound: what is forgotten is not pushed further.
    """
    config = config or UnlearnConfig()
    rows = removable(rows, collection)
    copy = copy_of(model, moving=True)
    moving = [copy.denoiser.get_parameter(name) for name in moving_names(copy)]
    if not moving:
        raise InputError(f"{model.name} has no cross-attention; unlearning moves nothing else")
    for parameter in moving:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(moving, config.learning_rate)
    latents, size = encoded(copy, collection, rows), config.batch_size
    rest = others(rows, collection)
    for step in range(config.steps):
        draw = generator("unlearn", config.seed, step)
        removed = torch.randint(len(rows), (size,), generator=draw)
        kept = rest[torch.randint(len(rest), (size,), generator=draw)].tolist()
        captions = [collection.captions[i] for i in [rows[n] for n in removed.tolist()] + kept]
        clean = torch.cat([latents[removed], encoded(copy, collection, kept)])
        losses, bounds = losses_of(copy, clean, captions, draw)
        away = torch.minimum(losses[:size], bounds[:size]).mean()
        optimizer.zero_grad()
        ((1 - config.away) * losses[size:].mean() - config.away * away).backward()
        optimizer.step()
        if on_step:
            on_step(step + 1, config.steps)
    copy.denoiser.requires_grad_(False)
    return copy


def losses_of(
    model: DiffusionModel,
    clean: Float[Tensor, "row channel height width"],
    captions: list[str],
    draw: torch.Generator,
) -> tuple[Float[Tensor, "row"], Float[Tensor, "row"]]:
    """Give each row's denoising loss at a random timestep, and what predicting zero would cost."""
    timesteps = torch.randint(model.num_timesteps, (len(clean),), generator=draw).to(clean.device)
    noise = torch.randn(clean.shape, generator=draw).to(clean.device)
    target = model.schedule.target(clean, noise, timesteps)
    noisy = model.schedule.add_noise(clean, noise, timesteps)
    predicted = model.predict(noisy, timesteps, model.conditions(captions))
    return tuple(x.square().flatten(1).mean(1) for x in (predicted - target, target))


def removable(rows: list[int | float], collection: Collection) -> list[int]:
    """Sort rows and drop repetitions; refuse what is no row, and too many."""
    wrong = [r for r in rows if not isinstance(r, int) or not 0 <= r < len(collection)]
    if wrong:
        raise InputError(
            f"{wrong[0]} is no row of the collection; rows are whole numbers from 0 to {len(collection) - 1}"
        )
    most = min(MOST, len(collection) // 2)
    found = sorted(set(rows))
    if not 0 < len(found) <= most:
        raise InputError(f"{len(found)} images are to be removed; choose 1 to {most}")
    return found


def others(rows: list[int], collection: Collection) -> Tensor:
    """Give all other rows of the collection."""
    kept = torch.ones(len(collection), dtype=torch.bool)
    kept[rows] = False
    return kept.nonzero()[:, 0]


def encoded(
    model: DiffusionModel, collection: Collection, rows: list[int]
) -> Float[Tensor, "row channel height width"]:
    """Encode some of a collection's pictures."""
    parts = [rows[i : i + ENCODED_AT_ONCE] for i in range(0, len(rows), ENCODED_AT_ONCE)]
    return torch.cat([model.latents([collection.image(i) for i in part]) for part in parts])


def difference(first: Image.Image, second: Image.Image) -> float:
    """Give the root mean square difference of two pictures of one size, in [0, 1]."""
    one, other = to_pixels([first, second], first.width)
    return ((one - other) / 2).square().mean().sqrt().item()
