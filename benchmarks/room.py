"""Say on paper how much memory features of a LoRA's layers take on SDXL and FLUX.1 [dev], by their configs alone.

Nothing of these models is downloaded: their published configs are written here, networks are described on torch's meta device, and a
picture's gradients are made there (attribution/gradients/memory.py): 10 timesteps of one picture in 1024 x 1024 pixels, the defaults of
`python -m precompute gradients --batch_size 1 --layers adapter --precision bf16`. The LoRA has rank 4 on attention, as diffusers' scripts train it.

  python benchmarks/room.py [--json]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from peft import LoraConfig

from attribution.gradients.features import FeatureExtractor
from attribution.gradients.memory import bytes_beside_parameters
from attribution.gradients.methods import FeatureConfig
from attribution.models.diffusion import DiffusionModel
from precompute.shipped.denoiser import new_tokenizer

SIDE = (1024, 1024)
CAPTION = "a photo of a cat"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
GB = 1e9
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768}  # fmt: skip
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "projection_dim": 1280}  # fmt: skip
T5_XXL = {"vocab_size": 32128, "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}  # fmt: skip


def autoencoder(**settings: object) -> diffusers.AutoencoderKL:
    """Describe the autoencoder of both, but for its latents."""
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **settings,
    )  # fmt: skip


def clip(kind: type, config: dict) -> torch.nn.Module:
    """Describe a CLIP text encoder."""
    return kind(transformers.CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **config))


def words() -> transformers.CLIPTokenizer:
    """Make a tokenizer of a few words that pads as CLIP's does."""
    tokenizer = new_tokenizer([CAPTION])
    tokenizer.model_max_length = 77
    return tokenizer


def sdxl() -> DiffusionPipeline:
    """Describe stabilityai/stable-diffusion-xl-base-1.0."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20], cross_attention_dim=2048,
        addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816, use_linear_projection=True,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(latent_channels=4), unet=unet, scheduler=diffusers.DDPMScheduler(),
        text_encoder=clip(transformers.CLIPTextModel, CLIP_L), tokenizer=words(),
        text_encoder_2=clip(transformers.CLIPTextModelWithProjection, CLIP_G), tokenizer_2=words(),
    )  # fmt: skip


def flux() -> DiffusionPipeline:
    """Describe black-forest-labs/FLUX.1-dev."""
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    head = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(guidance_embeds=True),
        vae=autoencoder(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=clip(transformers.CLIPTextModel, CLIP_L), tokenizer=words(),
        text_encoder_2=transformers.T5EncoderModel(transformers.T5Config(**T5_XXL)),
        tokenizer_2=transformers.T5Tokenizer(vocab=head + letters, extra_ids=0),
    )  # fmt: skip


def described(make: Callable[[], DiffusionPipeline]) -> DiffusionModel:
    """Describe a model in half precision, with an untrained LoRA."""
    with torch.device("meta"):
        pipeline = make()
    model = DiffusionModel(pipeline, make.__name__, asked_size=SIDE)
    for network in model.networks:
        network.to(torch.bfloat16)
    model.denoiser.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(TARGETS)))
    for network in model.networks:
        network.to("meta", torch.bfloat16).requires_grad_(False).eval()
    return model


def rows_of(make: Callable[[], DiffusionPipeline]) -> Iterator[dict]:
    """Give a row for all timesteps at once, without and with checkpointing, and for one at a time."""
    for checkpointing, at_once in ((False, 0), (True, 0), (False, 1), (True, 1)):
        model, started = described(make), time.perf_counter()
        denoiser, *rest = (sum(p.numel() for p in n.parameters()) for n in model.networks)
        if checkpointing:
            model.checkpoint_gradients()
        config = FeatureConfig(layers="adapter")
        batch = bytes_beside_parameters(model, config, 1, CAPTION, at_once)
        groups = len(FeatureExtractor(model, config).groups)
        yield {
                "model": make.__name__, "checkpointing": checkpointing, "timesteps_at_once": at_once or config.timesteps,
                "denoiser_gb": round(2 * denoiser / GB, 2), "denoiser_in_eight_bits_gb": round(denoiser / GB, 2),
                "encoders_gb": round(2 * sum(rest) / GB, 2), "picture_gb": round(batch / GB, 2),
                "groups": groups, "seconds": round(time.perf_counter() - started, 1),
            }  # fmt: skip


def main() -> None:
    """Print what both take."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for make in (sdxl, flux):
        for row in rows_of(make):
            told = ", ".join(f"{name} {value}" for name, value in row.items())
            print(json.dumps(row) if args.json else told, flush=True)


if __name__ == "__main__":
    main()
