"""Ask what the model would draw without some training images, by unlearning them in seconds.

In: a model, its collection, the picture's scores and the rows to remove. Out: a copy that was pushed away from them, or a
`WhatIf`: the same prompt and seed drawn before, after, and after the same push away from as many random images, a few
times over. A few steps go up the removed images' denoising loss and down that of others (NegGrad+, arXiv 2302.09880), in
the keys and values of cross-attention alone (as in arXiv 2406.09408). How far is read from `RETRAINED`: a small model that
was trained anew without images that held such a part of a picture's evidence lost so much on the picture. It is a
simulation, and for a part so small that retraining showed no rise nothing is drawn.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from attribution.answer.shares import portions
from attribution.concepts import denoising_losses
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel, copy_of, moving_names
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection, to_pixels
from attribution.progress import OnStep
from attribution.seeds import generator
from attribution.sentence import Sentence

MOST = 500  # images that can be removed at once
ENCODED_AT_ONCE = 32
DRAWING = 25  # steps of a picture
FORGETTING = 13  # of them take as long as a step of unlearning, for the progress
FIXED_SEED = 0  # of pictures whose own seed is not known
CONTROLS = 3  # sets of random images
HALVINGS = 6  # of the last step, to end where the picture's loss should
# part of a picture's evidence that was gone, and by how much its loss rose when the study's model was trained without it,
# with a 95 % interval over pictures: `precompute evaluate removed`, the sizes at which a rise was found
RETRAINED = (
    (0.2271, 0.0454, 0.0224, 0.0728),
    (0.5898, 0.1039, 0.071, 0.1375),
    (0.9243, 0.2052, 0.1462, 0.2597),
)


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
class Drawn:
    """A picture of a copy that unlearned some rows, the loss of the picture asked about, and how far the two are apart."""

    image: Image.Image
    loss: float
    apart: float  # root mean square difference from the picture before, in [0, 1]
    rows: list[int]


@dataclass(frozen=True)
class Rise:
    """By how much a picture's loss rises without a part of its evidence (0.1: by a tenth), with a 95 % interval."""

    rise: float
    low: float
    high: float


@dataclass(frozen=True)
class WhatIf:
    """A prompt and seed drawn before and after unlearning, and with random images unlearned."""

    prompt: str
    seed: int
    seed_known: bool  # if not, all pictures were drawn with a seed that is not the picture's own
    share: float  # part of the picture's evidence that the removed images hold
    aim: Rise | None  # none where retraining showed no rise for so small a part: nothing is drawn
    before: Drawn | None
    after: Drawn | None
    controls: list[Drawn]
    seconds: float


def evidence(scores: Float[Tensor, "train"], rows: list[int]) -> float:
    """Give the part of a picture's positive evidence that some rows hold."""
    return portions(scores, level=0.0)[rows].sum().item()


def expected(share: float) -> Rise | None:
    """Read from retraining by how much a loss rises; none below what it showed, the last rise beyond it."""
    shares, *rises = np.array(RETRAINED).T
    if share < shares[0]:
        return None
    return Rise(*(float(np.interp(share, shares, each)) for each in rises))


def what_if(
    model: DiffusionModel,
    collection: Collection,
    prompt: str,
    rows: list[int | float],
    scores: Float[Tensor, "train"],
    seed: int | None = None,
    image: Image.Image | None = None,
    config: UnlearnConfig | None = None,
    on_step: OnStep | None = None,
) -> WhatIf:
    """Draw a prompt and seed with a model that unlearned some training images, and with controls.

    `scores` are the picture's, of the collection's rows in order. Losses are of `image`, such as an upload, or of the
    picture drawn before. Without a seed, pictures are drawn with a fixed one. Steps end where the loss has risen as
    expected, or with `config.steps`; each control unlearns as many random others in as many steps. What `on_step`
    raises stops all; the model is never changed. It is told of what is done and of all, in steps of drawing; all
    gets less where few steps are enough.
    """
    config, started = config or UnlearnConfig(), time.monotonic()
    rows, used = removable(rows, collection), FIXED_SEED if seed is None else seed
    share = evidence(scores, rows)
    aim = expected(share)
    if aim is None:
        return WhatIf(prompt, used, seed is not None, share, None, None, None, [], 0.0)
    tick = _Ticks((2 + CONTROLS) * DRAWING, (1 + CONTROLS) * config.steps, on_step)
    [first] = copy_of(model).generate([prompt], [used], DRAWING, on_step=tick)
    image = image or first

    def loss(copy: DiffusionModel) -> float:
        return denoising_losses(Encoded(copy, [image]), [prompt]).mean().item()

    def drawn(copy: DiffusionModel, gone: list[int]) -> Drawn:
        [one] = copy.generate([prompt], [used], DRAWING, on_step=tick)
        return Drawn(one, loss(copy), difference(first, one), gone)

    before = Drawn(first, loss(model), 0.0, [])
    taken = 0

    def far_enough(copy: DiffusionModel) -> bool:
        return loss(copy) >= before.loss * (1 + aim.rise)

    def counted(*_: int) -> None:
        nonlocal taken
        taken += 1
        tick.forgot()

    after = drawn(unlearn(model, collection, rows, config, counted, far_enough), rows)
    tick.spare((1 + CONTROLS) * (config.steps - taken))
    config, rest = replace(config, steps=taken), others(rows, collection)
    controls = []
    for number in range(CONTROLS):
        order = torch.randperm(len(rest), generator=generator("control", config.seed, number))
        chosen = rest[order[: len(rows)]].sort().values.tolist()
        controls.append(drawn(unlearn(model, collection, chosen, config, tick.forgot), chosen))
    return WhatIf(
        prompt, used, seed is not None, share, aim, before, after, controls,
        round(time.monotonic() - started, 1),
    )  # fmt: skip


class _Ticks:
    """Count what is done, and tell it."""

    def __init__(self, drawing: int, forgetting: int, on_step: OnStep | None) -> None:
        self.done, self.total, self.on_step = 0, drawing + forgetting * FORGETTING, on_step

    def __call__(self, *_: int) -> None:
        """Count a step of drawing."""
        self._tell(1)

    def forgot(self, *_: int) -> None:
        """Count a step of unlearning."""
        self._tell(FORGETTING)

    def spare(self, steps: int) -> None:
        """Take back steps of unlearning that are not needed."""
        self.total -= steps * FORGETTING

    def _tell(self, steps: int) -> None:
        self.done += steps
        if self.on_step:
            self.on_step(self.done, self.total)


def unlearn(
    model: DiffusionModel,
    collection: Collection,
    rows: list[int | float],
    config: UnlearnConfig | None = None,
    on_step: OnStep | None = None,
    far_enough: Callable[[DiffusionModel], bool] | None = None,
) -> DiffusionModel:
    """Give a copy of a model that was pushed away from some training images and held to the others.

    Each step goes down (1 - a) L(others) - a min(L(removed), L(nothing)), by Adam. L(nothing), the loss of predicting
    zero, is this project's bound: what is forgotten is not pushed further. The step after which the copy is
    `far_enough` is the last, and is taken only as far as that needs.
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
        start = [parameter.detach().clone() for parameter in moving]
        optimizer.zero_grad()
        ((1 - config.away) * losses[size:].mean() - config.away * away).backward()
        optimizer.step()
        if on_step:
            on_step(step + 1, config.steps)
        if far_enough and far_enough(copy):
            _shorten(moving, start, lambda: far_enough(copy))
            break
    copy.denoiser.requires_grad_(False)
    return copy


def _shorten(
    moving: list[nn.Parameter], start: list[Tensor], far_enough: Callable[[], bool]
) -> None:
    """Halve a step again and again, and take as much of it as is far enough."""
    end = [parameter.detach().clone() for parameter in moving]
    short, long = 0.0, 1.0
    for number in range(HALVINGS + 1):
        part = (short + long) / 2 if number < HALVINGS else long
        for parameter, one, other in zip(moving, start, end, strict=True):
            parameter.data.copy_(one.lerp(other, part))
        short, long = (short, part) if far_enough() else (part, long)


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
        told = "{count} images are to be removed; choose 1 to {most}"
        raise InputError(Sentence(told, count=len(found), most=most))
    return found


def others(rows: list[int], collection: Collection) -> Tensor:
    """Give all other rows of the collection."""
    kept = torch.ones(len(collection), dtype=torch.bool)
    kept[rows] = False
    return kept.nonzero()[:, 0]


def encoded(
    model: DiffusionModel, collection: Collection, rows: list[int]
) -> Float[Tensor, "row channel height width"]:
    """Encode some of a collection's pictures, all at the size of drawings."""
    parts = [rows[i : i + ENCODED_AT_ONCE] for i in range(0, len(rows), ENCODED_AT_ONCE)]
    return torch.cat([model.latents([collection.image(i) for i in part]) for part in parts])


def difference(first: Image.Image, second: Image.Image) -> float:
    """Give the root mean square difference of two pictures of one size, in [0, 1]."""
    one, other = to_pixels([first, second], first.size)
    return ((one - other) / 2).square().mean().sqrt().item()
