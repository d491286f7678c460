"""Wrap a diffusers text-to-image pipeline: pictures to latents, prompts to conditions, noise predictions.

In: a folder or Hub id in diffusers' format. Out: a frozen `DiffusionModel`. It knows no gradients.
"""
# What diffusers says of its configs, schedulers and pipelines is narrower than what they are and take:
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from attribution.errors import InputError
from attribution.models.parts import check, load
from attribution.pictures.collection import to_pixels
from attribution.pictures.hub import model_folder

MAX_PROMPT = 1000  # characters
STEPS, GUIDANCE = 25, 3.0  # of drawing
PRECISIONS = ("no", "bf16")  # of `mixed_precision`
TRAINING = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type",
)  # what a sampler's config says of training  # fmt: skip


@dataclass
class DiffusionModel:
    """A frozen pipeline whose denoiser predicts noise, v or the clean latents.

    Its scheduler only draws. Samplers keep noise levels in orders and units of their own, and a drawing changes
    them; noise, velocity and levels of training come from `schedule`.
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

    @property
    def device(self) -> torch.device:
        """Give the device that everything runs on."""
        return self.pipeline.unet.device

    @property
    def resolution(self) -> int:
        """Give the side of the pictures, in pixels."""
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    @property
    def latent_size(self) -> int:
        """Give how many numbers a picture's latents are."""
        config = self.pipeline.unet.config
        return self.pipeline.vae.config.latent_channels * config.sample_size**2

    @property
    def num_timesteps(self) -> int:
        """Give T, the number of timesteps of training."""
        return self.schedule.config.num_train_timesteps

    @cached_property
    def schedule(self) -> DDPMScheduler:
        """Make the noise schedule of training; which sampler was saved with the model does not change it.

        Settings are handed over by name, as `from_config` would replace what a sampler's config left out by
        DDPM's own defaults.
        """
        config = self.pipeline.scheduler.config
        return DDPMScheduler(**{key: config[key] for key in TRAINING if key in config})

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
    def conditions(self, prompts: list[str]) -> Float[Tensor, "batch token width"]:
        """Encode prompts; what is longer than the tokenizer's limit is cut."""
        for prompt in prompts:
            if len(prompt) > MAX_PROMPT:
                raise InputError(
                    f"the prompt has {len(prompt)} characters; the limit is {MAX_PROMPT}"
                )
        tokens = self.pipeline.tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return self.pipeline.text_encoder(tokens.to(self.device))[0]

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Int[Tensor, "batch"]) -> Tensor:
        """Give z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) noise."""
        return self.schedule.add_noise(latents, noise, timesteps)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Tensor) -> Tensor:
        """Run the denoiser; what it predicts is its scheduler's `prediction_type`."""
        with torch.autocast(self.device.type, torch.bfloat16, self.mixed_precision == "bf16"):
            predicted = self.pipeline.unet(noisy, timesteps, conditions).sample
        return predicted.float()

    def estimate(
        self, noisy: Tensor, timesteps: Int[Tensor, "batch"], conditions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give the clean latents and the noise that the denoiser sees in noisy latents."""
        output = self.predict(noisy, timesteps, conditions)
        kind = self.schedule.config.prediction_type
        alphas = self.schedule.alphas_cumprod.to(noisy.device)[timesteps]
        signal, spread = (x.sqrt().view(-1, 1, 1, 1).clamp_min(1e-4) for x in (alphas, 1 - alphas))
        if kind == "v_prediction":
            return signal * noisy - spread * output, signal * output + spread * noisy
        if kind == "epsilon":
            return (noisy - spread * output) / signal, output
        return output, (noisy - signal * output) / spread

    def checkpoint_gradients(self) -> None:
        """Trade time for memory: the backward pass runs the denoiser's blocks again."""
        self.pipeline.unet.enable_gradient_checkpointing()

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Give what the denoiser was trained to predict."""
        kind = self.schedule.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.schedule.get_velocity(latents, noise, timesteps)
        if kind == "sample":
            return latents
        raise InputError(
            f"the scheduler predicts {kind!r}; epsilon, v_prediction and sample are known"
        )

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        seeds: list[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """Draw one picture per prompt and seed; `on_step(done, steps)` is told of progress.

        A picture depends on its own prompt and seed only, not on the batch around it.
        """
        shape = (
            self.pipeline.unet.config.in_channels,
            *(2 * (self.pipeline.unet.config.sample_size,)),
        )
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(shape, generator=draw) for draw in draws])
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
