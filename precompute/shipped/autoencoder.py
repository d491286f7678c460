"""Train the latent space: a diffusers AutoencoderKL from nothing, on the collection's pictures.

In: pictures in [-1, 1]. Out: an `AutoencoderKL` whose scaling factor gives latents unit variance.
Loss: L1 + L2 + L1 of the differences between neighbouring pixels (edges and textures, which L1 and L2 blur) + beta KL
(arXiv 2112.10752, appendix G, without the perceptual and adversarial terms).
"""

import time

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from tqdm import tqdm

from precompute.shipped.optimizer import MatrixOptimizer, has_bfloat16

KL_WEIGHT = 1e-3  # per latent element, against a reconstruction error per picture element


def new_autoencoder(resolution: int) -> AutoencoderKL:
    """Build an untrained autoencoder: 64 x 64 pictures to 8 x 8 x 16 latents, 2.8 M parameters.

    Residual branches start at zero, so that training starts from the short paths (arXiv 1901.09321).
    """
    channels = (16, 32, 64, 128)
    vae = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        sample_size=resolution,
    )
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            torch.nn.init.zeros_(module.conv2.weight)
    return vae


def edge_error(decoded: Tensor, batch: Tensor) -> Tensor:
    """Give the mean distance of the differences between neighbouring pixels, down and across."""
    error = decoded - batch
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def train_autoencoder(
    vae: AutoencoderKL,
    pixels: Tensor,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> list[dict[str, float]]:
    """Train in place; return the curve, a row every 100 steps (PSNR in dB)."""
    generator = torch.Generator().manual_seed(seed)
    vae.train()
    optimizer = MatrixOptimizer(vae, learning_rate)
    curve, start, squares = [], time.monotonic(), []
    for step in tqdm(range(steps), desc="autoencoder", unit="step", mininterval=5):
        done = step / steps
        rate = learning_rate * min(1.0, 0.01 + 50 * done, (1 - done) / 0.5 + 0.005)
        batch = pixels[torch.randint(len(pixels), (batch_size,), generator=generator)]
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            posterior = vae.encode(batch).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        kl = (
            0.5
            * (
                posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()
            ).mean()
        )
        error = decoded - batch
        loss = error.abs().mean() + error.square().mean() + edge_error(decoded, batch)
        optimizer.step(loss + KL_WEIGHT * kl, rate)
        squares.append(error.detach().square().mean())
        if len(squares) % 100 == 0 or len(squares) == steps:
            psnr = 10 * torch.log10(4 / torch.stack(squares[-100:]).mean())
            row = {"step": len(squares), "psnr": round(psnr.item(), 2), "kl": round(kl.item(), 3)}
            curve.append(row | {"seconds": round(time.monotonic() - start)})
    vae.eval()
    return curve


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor, batch_size: int = 64) -> Tensor:
    """Give the posterior means of pictures, scaled to unit variance by the scaling factor."""
    means = [vae.encode(batch).latent_dist.mean for batch in pixels.split(batch_size)]
    return torch.cat(means) * vae.config.scaling_factor
