"""Wrap a diffusers text-to-image pipeline: pictures to latents, prompts to conditions, noise predictions.

In: a folder or Hub id in diffusers' format. Out: a frozen `DiffusionModel`. It knows no gradients.
"""
# What diffusers says of its configs, schedulers and pipelines is narrower than what they are and take:
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from attribution.errors import InputError
from attribution.models.conditions import Conditions
from attribution.models.network import READING
from attribution.models.parts import check, load
from attribution.models.schedule import Schedule
from attribution.pictures.collection import to_pixels
from attribution.pictures.hub import model_folder
from attribution.progress import OnStep

MAX_PROMPT = 1000  # characters
STEPS, GUIDANCE = 25, 3.0  # of drawing
PRECISIONS = ("no", "bf16")  # of `mixed_precision`


@dataclass
class DiffusionModel:
    """A frozen pipeline whose denoiser predicts noise, v or the clean latents.

    Its scheduler only draws; noise, targets and levels of training come from `schedule`.
    """

    pipeline: StableDiffusionPipeline
    name: str
    mixed_precision: str = "no"  # bf16: the denoiser runs under autocast

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu") -> "DiffusionModel":
        """Load a folder or a Hub id onto a device; see parts.py for what is refused."""
        usable(device)
        pipeline = load(model_folder(name, check))
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.requires_grad_(False).eval().to(device)
        return cls(pipeline, str(name))

    def save(self, folder: Path) -> None:
        """Write the model as diffusers does."""
        self.pipeline.save_pretrained(folder)

    @property
    def denoiser(self) -> nn.Module:
        """Give the network whose gradients are taken."""
        return self.pipeline.unet

    @property
    def device(self) -> torch.device:
        """Give the device that everything runs on."""
        return next(self.denoiser.parameters()).device

    @property
    def resolution(self) -> int:
        """Give the side of the pictures, in pixels."""
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Give the channels, height and width of a picture's latents."""
        side = self.pipeline.unet.config.sample_size
        return self.pipeline.vae.config.latent_channels, side, side

    @property
    def num_timesteps(self) -> int:
        """Give T, the number of timesteps of training."""
        return self.schedule.times

    @cached_property
    def schedule(self) -> Schedule:
        """Give the noise schedule of training."""
        return Schedule.of(self.pipeline.scheduler)

    @cached_property
    def fingerprint(self) -> str:
        """Hash all parameters of denoiser, text encoder and autoencoder (SHA-256, 16 hex digits)."""
        digest = hashlib.sha256()
        for part in (self.pipeline.unet, self.pipeline.text_encoder, self.pipeline.vae):
            for key, value in sorted(part.state_dict().items()):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def latents(self, images: list[Image.Image]) -> Float[Tensor, "batch channel height width"]:
        """Encode pictures to z = (posterior mean - shift) scale, as the denoiser expects."""
        pixels = to_pixels(images, self.resolution).to(self.device)
        config = self.pipeline.vae.config
        mean = self.pipeline.vae.encode(pixels).latent_dist.mean
        return (mean - (config.shift_factor or 0.0)) * config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "batch channel height width"]) -> list[Image.Image]:
        """Decode z to pictures; diffusers' own pipeline would forget the shift."""
        config = self.pipeline.vae.config
        mean = latents / config.scaling_factor + (config.shift_factor or 0.0)
        drawn = self.pipeline.image_processor.postprocess(self.pipeline.vae.decode(mean).sample)
        return cast("list[Image.Image]", drawn)

    @torch.no_grad()
    def conditions(self, prompts: list[str]) -> Conditions:
        """Encode prompts; what is longer than the tokenizer's limit is cut."""
        for prompt in prompts:
            if len(prompt) > MAX_PROMPT:
                raise InputError(
                    f"the prompt has {len(prompt)} characters; the limit is {MAX_PROMPT}"
                )
        tokens = self.pipeline.tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        states = self.pipeline.text_encoder(tokens.to(self.device))[0]  # [prompt, token, width]
        return Conditions({"encoder_hidden_states": states})

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """Run the denoiser; what it predicts, the schedule knows."""
        with torch.autocast(self.device.type, torch.bfloat16, self.mixed_precision == "bf16"):
            predicted = self.denoiser(noisy, timesteps, **conditions.tensors).sample
        return predicted.float()

    def checkpoint_gradients(self) -> None:
        """Trade time for memory: the backward pass runs the denoiser's blocks again."""
        self.pipeline.unet.enable_gradient_checkpointing()

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
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(self.latent_shape, generator=draw) for draw in draws])
        self.conditions(prompts)  # refuses prompts that are too long before any work
        told = 0

        def report(pipeline: StableDiffusionPipeline, step: int, *given: Any) -> dict:
            nonlocal told  # some samplers run the denoiser more often than they are asked for steps
            done = (step + 1) * steps // pipeline.num_timesteps
            if on_step and done > told:
                on_step(done, steps)
            told = done
            return given[-1]

        latents = self.pipeline(
            prompts, latents=noise.to(self.device), num_inference_steps=steps, guidance_scale=guidance,
            generator=draws, callback_on_step_end=report, output_type="latent",
        ).images  # fmt: skip
        return self.decode(latents)


def copy_of(model: DiffusionModel, moving: bool = False) -> DiffusionModel:
    """Copy a model: it owns its schedule, `moving` the parameters that read the prompt, and shares all others.

    Nothing is drawn from torch's global stream, and hooks that another thread has set stay behind.
    """
    pipeline = model.pipeline
    with torch.device("meta"):  # no memory, no initial values
        unet = type(pipeline.unet).from_config(pipeline.unet.config)
    own = dict(pipeline.unet.state_dict())
    for name in moving_names(model) if moving else ():
        own[name] = own[name].clone()
    unet.load_state_dict(own, assign=True)
    schedule = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    parts = pipeline.components | {"unet": unet.requires_grad_(False).eval(), "scheduler": schedule}
    copy = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    copy.set_progress_bar_config(disable=True)
    return replace(model, pipeline=copy)


def moving_names(model: DiffusionModel) -> list[str]:
    """Name the parameters that read the prompt, cross-attention's keys and values; unlearning moves them."""
    endings = tuple(f"{layer}.weight" for layer in READING)
    return [name for name, _ in model.denoiser.named_parameters() if name.endswith(endings)]


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
