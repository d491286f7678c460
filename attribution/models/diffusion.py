"""Wrap a diffusers pipeline: pictures to latents, prompts to conditions, noise predictions, drawings.

In: a folder or Hub id in diffusers' format. Out: a frozen `DiffusionModel`. What is special to a pipeline's class stands in
the table of families (families.py). It knows no gradients.
"""
# What diffusers says of its configs, schedulers and pipelines is narrower than what they are and take:
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false

import copy
import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.training_utils import find_nearest_bucket
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from attribution.errors import InputError
from attribution.models import adapters
from attribution.models.conditions import Conditions
from attribution.models.families import FAMILIES, Family
from attribution.models.parts import check, described, load
from attribution.models.precision import PRECISIONS
from attribution.models.quantised import is_quantised, plain_tensors
from attribution.models.schedule import Flow, Schedule, schedule_of
from attribution.models.single_file import located
from attribution.pictures.collection import Collection, to_pixels
from attribution.pictures.size import Size, written
from attribution.progress import OnStep
from attribution.sentence import Sentence

MAX_PROMPT = 1000  # characters
STEPS, GUIDANCE = 25, 3.0  # of drawing
MIXED = ("no", "bf16")  # of `mixed_precision`
NOT_HASHED = ("98308d528ac64a7a", "5cd7f0e3c2561e47")  # what two models' configs say, as SHA-256


@dataclass
class DiffusionModel:
    """A frozen pipeline whose denoiser predicts noise, v or the clean latents.

    Its scheduler only draws; noise, targets and levels of training come from `schedule`.
    """

    pipeline: DiffusionPipeline
    name: str
    mixed_precision: str = "no"  # bf16: the denoiser runs under autocast
    asked_size: Size | None = None  # of the pictures; None: what the pipeline draws
    more_sizes: tuple[Size, ...] = ()  # that pictures of other shapes are seen at
    only_when_needed: bool = False  # whether encoders are on the device within `encoding` alone
    pictures_at_once: int = 0  # of a backward pass at most; 0: as many as are asked for
    timesteps_at_once: int = 0  # of a picture; 0: all

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str = "cpu",
        size: Size | None = None,
        precision: str = "fp32",
        more_sizes: tuple[Size, ...] = (),
    ) -> "DiffusionModel":
        """Load a folder, a Hub id or a file (FILE@CONFIG), with its adapters (MODEL+ADAPTER); parts.py says what is refused.

        It draws pictures of a size; with `more_sizes` it sees each at the nearest of all.

        In bf16 or fp16 parameters take half the memory. Those that were not saved so are rounded, which is another model.
        """
        if precision not in PRECISIONS:
            raise InputError(
                f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}"
            )
        usable(device)
        base, added = adapters.split_name(name)
        folder, file = located(base, check)
        pipeline = load(folder, precision, device, file)
        model = cls(pipeline, str(name), asked_size=size, more_sizes=more_sizes)
        adapters.add(model.pipeline, added)
        model._check_size()
        model.pipeline.set_progress_bar_config(disable=True)
        for part in model.networks:
            part.requires_grad_(False).eval().to(device)
        return model

    @classmethod
    def described(
        cls, name: str | Path, size: Size | None = None, precision: str = "fp32"
    ) -> "DiffusionModel":
        """Describe a model that holds no numbers (on torch's meta device), as it would be loaded."""
        base, added = adapters.split_name(name)
        folder, _ = located(base, check)
        model = cls(described(folder, precision), str(name), asked_size=size)
        adapters.add(model.pipeline, added)
        model._check_size()
        for part in model.networks:
            part.requires_grad_(False).eval().to("meta")
        return model

    def save(self, folder: Path) -> None:
        """Write the model as diffusers does."""
        self.pipeline.save_pretrained(folder)

    @property
    def family(self) -> Family:
        """Give the row of the table for the pipeline's class."""
        return FAMILIES[type(self.pipeline).__name__]

    @property
    def networks(self) -> list[nn.Module]:
        """Give everything that has parameters, the denoiser first."""
        found = [getattr(self.pipeline, part) for part in self.family.networks]
        return [network for network in found if network is not None]

    @property
    def denoiser(self) -> nn.Module:
        """Give the network whose gradients are taken."""
        return self.networks[0]

    @property
    def device(self) -> torch.device:
        """Give the device that everything runs on."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Give the type of the denoiser's parameters."""
        return next(self.denoiser.parameters()).dtype

    @property
    def precision(self) -> str:
        """Name that type, as `from_pretrained` takes it."""
        return next(name for name, kind in PRECISIONS.items() if kind == self.dtype)

    @property
    def size(self) -> Size:
        """Give the width and height of the pictures that it draws."""
        return self.asked_size or self._own_size()

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Give all sizes at which it sees pictures, that of its drawings first."""
        return self.size, *self.more_sizes

    def size_for(self, image: Image.Image) -> Size:
        """Give the size at which a picture is seen: that of the nearest shape, as diffusers' trainers choose it."""
        (width, height), sizes = image.size, self.sizes
        if len(sizes) == 1:
            return sizes[0]
        return sizes[find_nearest_bucket(height, width, [(h, w) for w, h in sizes])]

    def _check_size(self) -> None:
        """Refuse sizes that latents cannot have, or that the pipeline cannot draw."""
        multiple = 2 * getattr(self.pipeline, "vae_scale_factor", 4)
        drawn = inspect.signature(type(self.pipeline).__call__).parameters
        for width, height in self.sizes if self.asked_size else ():
            told = f"resolution is {written((width, height))}"
            if width % multiple or height % multiple:
                raise InputError(f"{told}; it must be a multiple of {multiple} pixels")
            if width != height and "height" not in drawn:
                raise InputError(
                    f"{told}, and a {type(self.pipeline).__name__} draws pictures of its network's "
                    "own shape alone; give one number, or leave --resolution out"
                )

    def _own_size(self) -> Size:
        """Give the size that the pipeline draws: its network's, else the 1024 pixels of large flow models."""
        if self.family.side:
            return self.family.side, self.family.side
        factor = getattr(self.pipeline, "vae_scale_factor", 1)
        if self.family.reads == "label":
            factor = 2 ** (len(self.pipeline.vae.config.block_out_channels) - 1)
        side = self.denoiser.config.get("sample_size") or 1024 // factor
        height, width = (side, side) if isinstance(side, int) else side
        return width * factor, height * factor

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """Give the channels, height and width of a drawing's latents."""
        if self.family.together:  # known without running the autoencoder
            width, height = (side // self.pipeline.vae_scale_factor for side in self.size)
            return self.pipeline.vae.config.latent_channels, height, width
        channels, height, width = self.latents([Image.new("RGB", (8, 8))]).shape[1:]
        return channels, height, width

    @cached_property
    def noise_shape(self) -> tuple[int, int, int]:
        """Give the channels, height and width of the least latents that those of every size fit into."""
        widths, heights = zip(*self.sizes, strict=True)
        return self.shape_at((max(widths), max(heights)))

    def shape_at(self, size: Size) -> tuple[int, int, int]:
        """Give the channels, height and width of latents at a size."""
        channels, height, width = self.latent_shape
        return channels, size[1] * height // self.size[1], size[0] * width // self.size[0]

    def reads(self, collection: Collection) -> Collection:
        """Give a collection as the model reads it: concepts are words, which some models do not know."""
        if self.family.reads == "prompt" or not collection.concepts:
            return collection
        return replace(collection, concepts={}, held_out=[], sentence="")

    @property
    def num_timesteps(self) -> int:
        """Give T, the number of timesteps of training."""
        return self.schedule.times

    @cached_property
    def schedule(self) -> Schedule | Flow:
        """Give the noise schedule of training."""
        return schedule_of(self.pipeline.scheduler)

    @cached_property
    def fingerprint(self) -> str:
        """Hash all parameters, and what else decides latents and outputs (SHA-256, 16 hex digits).

        What the shipped model's configs say, and Stable Diffusion 1's, is not hashed, so that older caches stay valid.
        """
        digest = hashlib.sha256()
        for part in self.networks:
            for key, value in sorted(part.state_dict().items()):
                digest.update(key.encode())
                for tensor in plain_tensors(value):
                    flat = tensor.detach().cpu().contiguous().flatten()
                    digest.update(flat.view(torch.uint8).numpy().tobytes())
        vae = getattr(self.pipeline, "vae", None)
        constants = [vae.config.get(key) for key in self.family.encoding.constants if vae]
        told = repr((constants, self.schedule.training, self._own_size())).encode()
        if hashlib.sha256(told).hexdigest()[:16] not in NOT_HASHED:
            digest.update(told)
        if self.asked_size:
            digest.update(f"{written(*self.sizes)} pixels".encode())
        if found := adapters.strengths(self.networks):
            digest.update(repr(found).encode())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def latents(
        self, images: list[Image.Image], size: Size | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Encode pictures as the denoiser expects them, cut to one size; to that of drawings if none is given."""
        pixels = to_pixels(images, size or self.size).to(self.device)
        with self._autoencoder() as kind:
            return self.family.encoding.encode(self.pipeline, pixels.to(kind)).float()

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "batch channel height width"]) -> list[Image.Image]:
        """Decode latents to pictures."""
        with self._autoencoder() as kind:
            pixels = self.family.encoding.decode(self.pipeline, latents.to(kind)).float()
        return cast("list[Image.Image]", VaeImageProcessor().postprocess(pixels))

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Have text encoders and autoencoder on the denoiser's device, and perhaps not longer than that."""
        encoders = self.networks[1:] if self.only_when_needed else []
        for network in encoders:
            network.to(self.device)
        try:
            yield
        finally:
            for network in encoders:
                network.to("cpu")

    def keep_encoders(self) -> None:
        """Have text encoders and autoencoder on the denoiser's device from now on."""
        self.only_when_needed = False
        for network in self.networks[1:]:
            network.to(self.device)

    @contextmanager
    def _autoencoder(self) -> Iterator[torch.dtype]:
        """Give the autoencoder's number type; one that would overflow in half precision is widened meanwhile."""
        vae = getattr(self.pipeline, "vae", None)
        if vae is None:
            yield torch.float32
            return
        narrow = vae.dtype == torch.float16 and vae.config.get("force_upcast", False)
        if narrow:
            vae.float()
        try:
            yield vae.dtype
        finally:
            if narrow:
                vae.half()

    @torch.no_grad()
    def conditions(self, prompts: list[str]) -> Conditions:
        """Encode prompts; what is longer than the tokenizer's limit is cut."""
        for prompt in prompts:
            if len(prompt) > MAX_PROMPT:
                told = "the prompt has {count} characters; the limit is {most}"
                raise InputError(Sentence(told, count=len(prompt), most=MAX_PROMPT))
        if self.family.together:
            return Conditions(self.family.told(self.pipeline, prompts))
        return Conditions.joined(
            [Conditions(self.family.told(self.pipeline, prompt)) for prompt in prompts]
        )

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """Run the denoiser; what it predicts, the schedule knows.

        Rows whose conditions differ in shape are run apart, each run of equal ones in one call.
        """
        if conditions.ragged:
            parts = [
                self.predict(noisy[rows], timesteps[rows], conditions[rows])
                for rows in conditions.alike()
            ]
            return torch.cat(parts)
        level = self.schedule.level(timesteps)
        mixed = self.mixed_precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext():
            seen = noisy.to(self.dtype)
            predicted = self.family.output(self.pipeline, seen, level, conditions.tensors)
        if predicted.shape[1] > noisy.shape[1]:  # the rest is a learned variance
            predicted = predicted[:, : noisy.shape[1]]
        return predicted.float()

    def checkpoint_gradients(self) -> None:
        """Trade time for memory: the backward pass runs the denoiser's blocks again."""
        self.denoiser.enable_gradient_checkpointing()

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        seeds: list[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """Draw one picture per prompt and seed; `on_step(done, steps)` is told of progress.

        A picture depends on its own prompt and seed only, not on the batch around it.
        """
        if not self.family.together:
            pairs = zip(prompts, seeds, strict=True)
            return [self._draw(*pair, steps, guidance, on_step) for pair in pairs]
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(self.latent_shape, generator=draw) for draw in draws])
        self.conditions(prompts)  # refuses prompts that are too long before any work
        told = 0

        def report(pipeline: DiffusionPipeline, step: int, *given: Any) -> dict:
            nonlocal told  # some samplers run the denoiser more often than they are asked for steps
            done = (step + 1) * steps // pipeline.num_timesteps
            if on_step and done > told:
                on_step(done, steps)
            told = done
            return given[-1]

        latents = self.pipeline(
            prompts, latents=noise.to(self.device, self.dtype), num_inference_steps=steps, guidance_scale=guidance,
            generator=draws, callback_on_step_end=report, output_type="latent",
        ).images  # fmt: skip
        return self.decode(latents)

    def _draw(
        self, prompt: str, seed: int, steps: int, guidance: float, on_step: OnStep | None
    ) -> Image.Image:
        """Draw a picture with the pipeline's own call, giving it what it takes."""
        told = self.conditions([prompt])  # refuses prompts before any work

        def report(_: DiffusionPipeline, step: int, *given: Any) -> dict:
            if on_step:
                on_step(step + 1, steps)
            return given[-1]

        given: dict[str, Any] = {
            "prompt": prompt, "height": self.size[1], "width": self.size[0],
            "num_inference_steps": steps, "guidance_scale": guidance,
            "generator": torch.Generator().manual_seed(seed), "callback_on_step_end": report,
            "use_resolution_binning": False,
        }  # fmt: skip
        if self.family.reads == "label":
            labels = told.tensors["class_labels"].tolist()
            known = (
                self.denoiser.config.num_embeds_ada_norm == 1000
            )  # DiT's own call takes 1000 for none
            given |= {"class_labels": labels, "guidance_scale": guidance if known else 1.0}
        if self.family.reads == "nothing":  # numpy, which it would go through, knows no bfloat16
            given["output_type"] = "pt"
        taken = inspect.signature(type(self.pipeline).__call__).parameters
        drawn = self.pipeline(**{key: value for key, value in given.items() if key in taken})
        if on_step and "callback_on_step_end" not in taken:
            on_step(steps, steps)
        if isinstance(drawn.images, Tensor):
            return VaeImageProcessor().numpy_to_pil(
                VaeImageProcessor.pt_to_numpy(drawn.images.float())
            )[0]
        return drawn.images[0]


def copy_of(model: DiffusionModel, moving: bool = False) -> DiffusionModel:
    """Copy a model: it owns its schedule, `moving` the parameters that read the prompt, and shares all others.

    Nothing is drawn from torch's global stream, and hooks that another thread has set stay behind.
    """
    pipeline, denoiser = model.pipeline, model.denoiser
    memo: dict[int, object] = {
        id(held): held for held in (*denoiser.parameters(), *denoiser.buffers())
    }
    for module in denoiser.modules():
        hooks = (module._forward_hooks, module._forward_hooks_with_kwargs)
        memo |= {id(found): type(found)() for found in hooks}
    network = copy.deepcopy(denoiser, memo)
    for name in moving_names(model) if moving else ():
        place, _, last = name.rpartition(".")
        own = nn.Parameter(denoiser.get_parameter(name).detach().clone(), requires_grad=False)
        setattr(network.get_submodule(place), last, own)
    twin = copy.copy(pipeline)
    setattr(twin, model.family.networks[0], network)
    twin.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    return replace(model, pipeline=twin)


def moving_names(model: DiffusionModel) -> list[str]:
    """Name the parameters that read the prompt, attention's keys and values of words; unlearning moves them.

    None of a quantised denoiser, whose whole numbers no small step moves.
    """
    endings = tuple(f"{layer}.weight" for layer in model.family.anatomy.keys)
    parameters = dict(model.denoiser.named_parameters())
    if any(map(is_quantised, parameters.values())):
        return []
    named = [(name, adapters.plain(name)) for name in parameters]
    return [name for name, plain in named if plain.endswith(endings) and not adapters.is_own(name)]


def usable(device: str) -> None:
    """Refuse a device that is not on this machine."""
    try:
        torch.empty(1, device=device).cpu()
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
    ) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the device {device!r} cannot be used on this machine ({reason}); give cpu, or one that is here"
        ) from error
