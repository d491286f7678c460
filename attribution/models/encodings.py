"""Turn pixels to what a denoiser sees of a picture, and back: an autoencoder's latents, or the pixels themselves.

In: a pipeline, and pixels [batch, 3, height, width] in [-1, 1]. Out: latents [batch, channel, height, width] of about unit
variance; or the reverse. It knows no denoiser.
"""
# What diffusers says of its configs and autoencoders is narrower than what they are:
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

Turn = Callable[[DiffusionPipeline, Tensor], Tensor]


@dataclass(frozen=True)
class Encoding:
    """How pixels become latents, and latents pixels; what decides it beside parameters is in `constants`."""

    encode: Turn
    decode: Turn
    constants: tuple[str, ...] = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


def _row(values: list[float | int], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)


def scaled(pipeline: DiffusionPipeline, pixels: Tensor) -> Tensor:
    """Give z = (posterior mean - shift) scale, or (mean - m) scale / s where the config has m and s."""
    vae = pipeline.vae
    mean = vae.encode(pixels).latent_dist.mean
    if vae.config.get("latents_mean") is not None and vae.config.get("latents_std") is not None:
        mean = mean - _row(vae.config.latents_mean, mean)
        return mean * vae.config.scaling_factor / _row(vae.config.latents_std, mean)
    return (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def unscaled(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Decode latents that were scaled; some of diffusers' own pipelines would forget the shift."""
    vae = pipeline.vae
    if vae.config.get("latents_mean") is not None and vae.config.get("latents_std") is not None:
        latents = latents * _row(vae.config.latents_std, latents) / vae.config.scaling_factor
        return vae.decode(latents + _row(vae.config.latents_mean, latents)).sample
    return vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample


def normalised(pipeline: DiffusionPipeline, pixels: Tensor) -> Tensor:
    """Give the first frame's z = (mean - m) / s, as a video autoencoder has it."""
    config = pipeline.vae.config
    mean = pipeline.vae.encode(pixels[:, :, None]).latent_dist.mean[:, :, 0]
    return (mean - _row(config.latents_mean, mean)) / _row(config.latents_std, mean)


def unnormalised(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Decode the first frame."""
    config = pipeline.vae.config
    mean = latents * _row(config.latents_std, latents) + _row(config.latents_mean, latents)
    return pipeline.vae.decode(mean[:, :, None]).sample[:, :, 0]


def patched(pipeline: DiffusionPipeline, pixels: Tensor) -> Tensor:
    """Give 2 x 2 patches of the posterior mean as channels, in the statistics of the autoencoder's batch norm."""
    mean = pipeline._patchify_latents(pipeline.vae.encode(pixels).latent_dist.mode())
    norm = pipeline.vae.bn
    spread = (norm.running_var + pipeline.vae.config.batch_norm_eps).sqrt()
    return (mean - norm.running_mean.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1)


def unpatched(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Decode patches."""
    norm = pipeline.vae.bn
    spread = (norm.running_var + pipeline.vae.config.batch_norm_eps).sqrt()
    mean = latents * spread.view(1, -1, 1, 1) + norm.running_mean.view(1, -1, 1, 1)
    return pipeline.vae.decode(pipeline._unpatchify_latents(mean)).sample


PIXELS = Encoding(lambda _, pixels: pixels, lambda _, latents: latents, ())
SCALED = Encoding(scaled, unscaled)
DEEP = Encoding(
    lambda pipeline, pixels: (
        pipeline.vae.encode(pixels).latent * pipeline.vae.config.scaling_factor
    ),
    lambda pipeline, latents: (
        pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    ),
)
FRAMES = Encoding(normalised, unnormalised)
PATCHES = Encoding(patched, unpatched, ("batch_norm_eps",))
