"""Build the small study: a model and a collection that can be trained anew hundreds of times on two cores.

In: the shipped collection and model. Out: a `Study`, 420 pictures (one each of two combinations in three) as latents and
conditions of the shipped autoencoder and text encoder, which stay as they are, as CLIP does for Stable Diffusion;
and denoisers of 1 M parameters, trained on any part of the pictures. It measures nothing.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn

from attribution.files import load_tensors, save_tensors, write_whole
from attribution.gradients.trials import Trials
from attribution.models.conditions import Conditions
from attribution.models.diffusion import DiffusionModel
from attribution.models.schedule import Schedule
from attribution.pictures.collection import Collection, load_collection
from attribution.seeds import generator
from precompute.shipped.optimizer import MatrixOptimizer

BATCH = 32
MOST = 420  # pictures, so that a training stays short
LEARNING_RATE = 6e-3
STEPS = 250  # of a training from nothing; 20 seconds on one core
DROPPED = 0.1  # share of captions that are left out
FULL_SEED = 0  # of the training on all pictures
NOISES = 3  # draws for each timestep of a loss
# told before each step of the denoiser, the pictures in the batch and what is made of them
OnBatch = Callable[[UNet2DConditionModel, Int[Tensor, "row"], Trials], None]


def new_small_unet() -> UNet2DConditionModel:
    """Build an untrained denoiser with 83 layers, 1 M parameters; attention at 4 x 4 only."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=2,
    )


def write_collection(source: Path, folder: Path, captions: dict[str, str] | None = None) -> None:
    """Copy one picture each of some combinations into an imagefolder; `captions` (by file) replace some.

    A style's pictures are taken from its copies in turn, so that all of its hands are there.
    """
    copies: dict[tuple[str, str, str], list[dict]] = {}
    for row in map(json.loads, (source / "metadata.jsonl").read_text().splitlines()):
        copies.setdefault((row["subject"], row["style"], row["background"]), []).append(row)
    every, turn, rows = list(copies), Counter[str](), []
    for n in torch.randperm(len(every), generator=generator("study", "pictures")).tolist()[:MOST]:
        some, style = copies[every[n]], every[n][1]
        rows.append(some[turn[style] % len(some)])
        turn[style] += 1
    rows.sort(key=lambda row: row["file_name"])
    for row in rows:
        row["text"] = (captions or {}).get(row["file_name"], row["text"])
        (folder / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["file_name"], folder / row["file_name"])
    for name in ("concepts.json", "held_out.json"):
        shutil.copy(source / name, folder / name)
    write_whole(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True)
class Study:
    """The study's pictures as a denoiser sees them; its model's denoiser is replaced by each trained one."""

    model: DiffusionModel
    collection: Collection

    @classmethod
    def open(cls, model: str | Path, collection: str | Path) -> "Study":
        """Load the parts that stay and encode the pictures."""
        return cls(DiffusionModel.from_pretrained(model), load_collection(collection))

    @cached_property
    def latents(self) -> Float[Tensor, "train channel height width"]:
        """Encode all training pictures."""
        return self.encoded([self.collection.image(i) for i in range(len(self.collection))])

    @cached_property
    def conditions(self) -> Conditions:
        """Encode all captions."""
        return self.model.conditions(self.collection.captions)

    @cached_property
    def empty(self) -> Conditions:
        """Encode what stands for a caption that is left out."""
        return self.model.conditions([""])

    def encoded(self, images: list[Image.Image]) -> Float[Tensor, "image channel height width"]:
        """Encode any pictures."""
        return torch.cat(
            [self.model.latents(images[i : i + 64]) for i in range(0, len(images), 64)]
        )

    def train(
        self,
        kept: Bool[Tensor, "train"],
        seed: int,
        steps: int = STEPS,
        start: UNet2DConditionModel | None = None,
        learning_rate: float = LEARNING_RATE,
        on_batch: OnBatch | None = None,
    ) -> UNet2DConditionModel:
        """Train a denoiser on the pictures that are kept, from nothing or going on from `start`.

        Two trainings of one seed differ only by what is kept: the draws are the same, and a picture that is
        not kept is replaced by one that is.
        """
        torch.manual_seed(seed)
        unet = new_small_unet()
        if start is not None:
            unet.load_state_dict(start.state_dict())
        optimizer = MatrixOptimizer(unet.train(), learning_rate)
        for step in range(steps):
            rows, trials = self.batch(kept, generator("study", seed, step))
            if on_batch:
                on_batch(unet, rows, trials)
            predicted = unet(trials.noisy, trials.timesteps, **trials.conditions.tensors)
            loss = nn.functional.mse_loss(predicted.sample, trials.target)
            warm = 1.0 if start is not None else step / 30
            optimizer.step(loss, learning_rate * min(1.0, warm, 2 * (1 - step / steps)))
        return unet.eval().requires_grad_(False)

    def batch(
        self, kept: Bool[Tensor, "train"], draw: torch.Generator
    ) -> tuple[Int[Tensor, "row"], Trials]:
        """Draw the pictures of a step, and what the denoiser is given of them."""
        rows, scheduler = kept.nonzero()[:, 0], self.scheduler
        chosen = torch.randint(len(kept), (BATCH,), generator=draw)
        other = rows[torch.randint(len(rows), (BATCH,), generator=draw)]
        chosen = torch.where(kept[chosen], chosen, other)
        timesteps = torch.randint(self.model.num_timesteps, (BATCH,), generator=draw)
        clean = self.latents[chosen]
        noise = torch.randn(clean.shape, generator=draw)
        dropped = torch.rand(BATCH, generator=draw) < DROPPED
        told = Conditions.joined([self.conditions, self.empty])  # the last row is of no words
        noisy = scheduler.add_noise(clean, noise, timesteps)
        told = told[torch.where(dropped, len(kept), chosen)]
        return chosen, Trials(noisy, timesteps, told, scheduler.target(clean, noise, timesteps))

    @property
    def scheduler(self) -> Schedule:
        """Give the noise schedule of the shipped model's training."""
        return self.model.schedule

    @torch.no_grad()
    def losses(
        self, unet: UNet2DConditionModel, images: list[Image.Image], prompts: list[str]
    ) -> Float[Tensor, "image"]:
        """Give a denoiser's mean loss of pictures, at ten timesteps under noise that never changes."""
        latents, conditions = self.encoded(images), self.model.conditions(prompts)
        timesteps = (torch.arange(10) * 100 + 50).repeat(NOISES)
        noise = torch.randn((len(timesteps), *latents.shape[1:]), generator=generator("losses"))
        found = []
        for row, clean in enumerate(latents):
            clean, told = clean.expand_as(noise), conditions[row : row + 1].repeat(len(noise))
            noisy = self.scheduler.add_noise(clean, noise, timesteps)
            predicted = unet(noisy, timesteps, **told.tensors).sample
            target = self.scheduler.target(clean, noise, timesteps)
            found.append((predicted - target).square().mean())
        return torch.stack(found)

    def with_denoiser(self, unet: UNet2DConditionModel) -> DiffusionModel:
        """Give the whole model with another denoiser, to draw pictures or to take gradients."""
        self.model.pipeline.unet = unet
        return DiffusionModel(self.model.pipeline, self.model.name)


def full_model(study: Study, path: Path, steps: int) -> UNet2DConditionModel:
    """Train on all pictures, or load what was trained; in half precision, as it is kept."""
    if not path.is_file():
        everything = torch.ones(len(study.collection), dtype=torch.bool)
        trained = study.train(everything, FULL_SEED, steps)
        save_tensors(path, {k: v.half() for k, v in trained.state_dict().items()})
    return denoiser(load_tensors(path))


def denoiser(tensors: dict[str, Tensor]) -> UNet2DConditionModel:
    """Make a small denoiser from its parameters in half precision."""
    unet = new_small_unet()
    unet.load_state_dict({k: v.float() for k, v in tensors.items()})
    return unet.eval().requires_grad_(False)
