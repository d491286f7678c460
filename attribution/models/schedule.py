"""Add noise as training did, and tell what the denoiser was trained to give.

    z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) noise          (Ho et al., arXiv 2006.11239, eq. 4)

and, where training was flow matching (arXiv 2210.02747; rectified flow, arXiv 2403.03206),

    z_t = (1 - sigma_t) z_0 + sigma_t noise,   target = noise - z_0

In: clean latents, noise, timesteps. Out: noisy latents and targets; or, from what a denoiser gave, the clean latents and
the noise that it sees. It knows no network. Samplers keep noise levels in orders and units of their own, and a
drawing changes them; of a sampler only what its config says of training is used.
"""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, SchedulerMixin
from jaxtyping import Float, Int
from torch import Tensor

from attribution.errors import InputError

TRAINING = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type",
)  # what a sampler's config says of training  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """The noise schedule of a diffusion model's training."""

    noising: DDPMScheduler

    @classmethod
    def of(cls, sampler: SchedulerMixin) -> "Schedule":
        """Make the schedule of training; which sampler was saved with a model does not change it.

        Settings are handed over by name, as `from_config` would replace what a sampler's config left out by
        DDPM's own defaults.
        """
        config = sampler.config
        return cls(DDPMScheduler(**{key: config[key] for key in TRAINING if key in config}))

    @property
    def training(self) -> dict[str, object]:
        """Give all that decides it, whatever version of diffusers reads it."""
        return {key: self.noising.config.get(key) for key in TRAINING}

    @property
    def times(self) -> int:
        """Give T, the number of timesteps of training."""
        return self.noising.config.num_train_timesteps

    @property
    def signal(self) -> Float[Tensor, "timestep"]:
        """Give abar_t, the share of the signal's variance that is left at every timestep."""
        return self.noising.alphas_cumprod

    def level(self, timesteps: Int[Tensor, "row"]) -> Tensor:
        """Give what a denoiser is told of the noise: the timestep."""
        return timesteps

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Int[Tensor, "row"]) -> Tensor:
        """Give z_t."""
        return self.noising.add_noise(clean, noise, timesteps)

    def target(self, clean: Tensor, noise: Tensor, timesteps: Int[Tensor, "row"]) -> Tensor:
        """Give what the denoiser was trained to predict."""
        kind = self.noising.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.noising.get_velocity(clean, noise, timesteps)
        if kind == "sample":
            return clean
        raise InputError(
            f"the scheduler predicts {kind!r}; epsilon, v_prediction and sample are known"
        )

    def estimate(
        self, noisy: Tensor, output: Tensor, timesteps: Int[Tensor, "row"]
    ) -> tuple[Tensor, Tensor]:
        """Give the clean latents and the noise that the denoiser's output sees in noisy latents."""
        kind, alphas = self.noising.config.prediction_type, self.signal.to(noisy.device)[timesteps]
        signal, spread = (x.sqrt().view(-1, 1, 1, 1).clamp_min(1e-4) for x in (alphas, 1 - alphas))
        if kind == "v_prediction":
            return signal * noisy - spread * output, signal * output + spread * noisy
        if kind == "epsilon":
            return (noisy - spread * output) / signal, output
        return output, (noisy - signal * output) / spread


@dataclass(frozen=True)
class Flow:
    """The noise levels of a model that was trained by flow matching; timestep 0 holds the least noise."""

    times: int  # T
    shift: float  # sigma = s t / (1 + (s - 1) t), t = 1/T ... 1 (arXiv 2403.03206, eq. 23)

    @classmethod
    def of(cls, sampler: SchedulerMixin) -> "Flow":
        """Take from a sampler's config what trainers take; a shift by resolution is one of drawing alone."""
        config = sampler.config
        dynamic = config.get("use_dynamic_shifting", False)
        shift = config.get("shift", config.get("flow_shift", 1.0))
        return cls(config.num_train_timesteps, 1.0 if dynamic else float(shift))

    @property
    def training(self) -> dict[str, object]:
        """Give all that decides it."""
        return {"times": self.times, "shift": self.shift}

    @property
    def signal(self) -> Float[Tensor, "timestep"]:
        """Give the share of the signal's variance that is left at every timestep."""
        sigma = self.level(torch.arange(self.times))
        return (1 - sigma).square() / ((1 - sigma).square() + sigma.square())

    def level(self, timesteps: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
        """Give what a denoiser is told of the noise: sigma, in (0, 1]."""
        share = (timesteps + 1).float() / self.times
        return self.shift * share / (1 + (self.shift - 1) * share)

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Int[Tensor, "row"]) -> Tensor:
        """Give z_t."""
        sigma = self.level(timesteps).view(-1, 1, 1, 1)
        return (1 - sigma) * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Int[Tensor, "row"]) -> Tensor:
        """Give the velocity that the denoiser was trained to predict."""
        return noise - clean

    def estimate(
        self, noisy: Tensor, output: Tensor, timesteps: Int[Tensor, "row"]
    ) -> tuple[Tensor, Tensor]:
        """Give the clean latents and the noise that the denoiser's output sees in noisy latents."""
        sigma = self.level(timesteps).view(-1, 1, 1, 1)
        return noisy - sigma * output, noisy + (1 - sigma) * output


def schedule_of(sampler: SchedulerMixin) -> Schedule | Flow:
    """Make the schedule of training, of diffusion or of flow matching."""
    flow = type(sampler).__name__.startswith("FlowMatch") or sampler.config.get("use_flow_sigmas")
    return Flow.of(sampler) if flow else Schedule.of(sampler)
