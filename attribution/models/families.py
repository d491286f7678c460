"""The table of families: what a pipeline class is made of, what its denoiser is told, and how it is called.

A family is a row of data and two short functions. In: a pipeline, a prompt; or a pipeline, noisy
latents, noise levels and what was told. Out: tensors by name, a row for the prompt; or the output that the schedule knows how to read
(schedule.py): noise, v, clean latents, or a flow's velocity noise - clean. It knows no files.
"""
# What diffusers says of its pipelines is narrower than what they are:
# pyright: reportAttributeAccessIssue=false

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from attribution.errors import InputError
from attribution.models.encodings import DEEP, FRAMES, PATCHES, PIXELS, SCALED, Encoding
from attribution.models.network import (
    ONE_STREAM,
    READER,
    TWO_STREAMS,
    UNET,
    UNKNOWN,
    WORDLESS,
    Anatomy,
)
from attribution.sentence import Sentence

Told = dict[str, Tensor]
GUIDANCE = 3.5  # that a guidance-distilled denoiser is told in training (diffusers' train_dreambooth_lora_flux.py)


@dataclass(frozen=True)
class Family:
    """One pipeline class."""

    parts: str  # "part: Class or Other, ..." beside the scheduler; a part with a "?" may be missing
    told: Callable[[DiffusionPipeline, Any], Told]  # of a prompt
    output: Callable[[DiffusionPipeline, Tensor, Tensor, Told], Tensor]
    encoding: Encoding = SCALED
    flow: bool = False
    patch: int = 1  # sides of the squares of latents that the denoiser's channels hold
    reads: str = "prompt"  # or label, or nothing
    together: bool = False  # whether `told` takes a list of prompts
    anatomy: Anatomy = UNKNOWN  # what its layers' names mean

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Give the classes that each part may have."""
        pairs = (part.split(": ") for part in self.parts.split(", "))
        return {part.removesuffix("?"): tuple(names.split(" or ")) for part, names in pairs}

    @property
    def optional(self) -> set[str]:
        """Name the parts that may be missing."""
        return {part.split("?")[0] for part in self.parts.split(", ") if "?" in part.split(":")[0]}

    @property
    def maps(self) -> bool:
        """Tell whether layers' positions lie in the picture; a transformer's may be words and picture in one."""
        return self.anatomy.placed

    @property
    def networks(self) -> list[str]:
        """Name the parts that have parameters, the denoiser first."""
        return [part for part in self.classes if not part.startswith("tokenizer")]


def packed(latents: Float[Tensor, "row c h w"]) -> Float[Tensor, "row token channel"]:
    """Give squares of 2 x 2 latents as tokens."""
    squares = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [row, c, h/2, 2, w/2, 2]
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Float[Tensor, "row token channel"], like: Tensor) -> Tensor:
    """Give tokens the places that `packed` took them from."""
    squares = tokens.unflatten(2, (-1, 2, 2)).unflatten(1, (like.shape[2] // 2, -1))
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)


def guided(network: torch.nn.Module, like: Tensor) -> Tensor | None:
    """Give the guidance that a distilled denoiser is told."""
    return like.new_full(like.shape[:1], GUIDANCE) if network.config.guidance_embeds else None


def hidden_states(pipeline: DiffusionPipeline, prompts: list[str]) -> Told:
    """Stable Diffusion 1 and 2."""
    tokens = pipeline.tokenizer(
        prompts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return {"encoder_hidden_states": pipeline.text_encoder(tokens.to(pipeline.device))[0]}


def by_unet(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Stable Diffusion 1 and 2."""
    return pipeline.unet(noisy, level, **told).sample


def xl_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """SDXL: two text encoders' states, and the second's pooled text."""
    states, _, pooled, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    return {"states": states, "pooled": pooled}


def xl_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """SDXL: the picture is told to be as large as it is, and not cropped."""
    height, width = (side * pipeline.vae_scale_factor for side in noisy.shape[2:])
    sizes = noisy.new_tensor([[height, width, 0, 0, height, width]]).expand(len(noisy), -1)
    added = {"text_embeds": told["pooled"], "time_ids": sizes}
    return pipeline.unet(noisy, level, told["states"], added_cond_kwargs=added).sample


def sd3_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """Stable Diffusion 3."""
    states, _, pooled, _ = pipeline.encode_prompt(
        prompt, prompt, prompt, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": states, "pooled_projections": pooled}


def sd3_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Stable Diffusion 3."""
    return pipeline.transformer(noisy, timestep=1000 * level, **told).sample


def flux_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """FLUX.1."""
    states, pooled, _ = pipeline.encode_prompt(prompt, None)
    return {"encoder_hidden_states": states, "pooled_projections": pooled}


def flux_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """FLUX.1, dev and schnell."""
    network, (height, width) = pipeline.transformer, (side // 2 for side in noisy.shape[2:])
    places = pipeline._prepare_latent_image_ids(1, height, width, noisy.device, noisy.dtype)
    words = noisy.new_zeros(told["encoder_hidden_states"].shape[1], 3)
    asked = {"txt_ids": words, "img_ids": places, "guidance": guided(network, noisy)}
    return unpacked(network(packed(noisy), timestep=level, **told, **asked).sample, noisy)


def masked_told(pipeline: DiffusionPipeline, prompt: str, **more: object) -> Told:
    """PixArt and Lumina 2: states, and which of them are words."""
    states, mask, *_ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, **more)
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def pixart_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """PixArt: the larger of its networks are told the size; half of the channels are a learned variance."""
    network, added = pipeline.transformer, {"resolution": None, "aspect_ratio": None}
    if network.use_additional_conditions:
        height, width = (side * pipeline.vae_scale_factor for side in noisy.shape[2:])
        ones = noisy.new_ones(len(noisy), 1)
        sizes = torch.cat([height * ones, width * ones], 1)
        added = {"resolution": sizes, "aspect_ratio": height / width * ones}
    return network(noisy, timestep=level, added_cond_kwargs=added, **told).sample


def sana_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """Sana: its prompts follow the instruction that its drawings give."""
    given = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"]
    return masked_told(pipeline, prompt, complex_human_instruction=given.default)


def sana_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Sana."""
    network = pipeline.transformer
    return network(noisy, timestep=1000 * level * network.config.timestep_scale, **told).sample


def lumina_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Lumina 2: time runs from noise to the picture, and so does its velocity."""
    return -pipeline.transformer(noisy, timestep=1 - level, **told).sample


def qwen_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """Qwen-Image: as many states as the prompt has tokens."""
    return {"states": pipeline.encode_prompt(prompt)[0]}


def qwen_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Qwen-Image."""
    shapes = [[(1, noisy.shape[2] // 2, noisy.shape[3] // 2)]] * len(noisy)
    tokens = pipeline.transformer(
        packed(noisy), told["states"], timestep=level, img_shapes=shapes,
        guidance=guided(pipeline.transformer, noisy),
    ).sample  # fmt: skip
    return unpacked(tokens, noisy)


def z_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """Z-Image: as many states as the prompt has tokens."""
    [states], _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    return {"states": states[None]}


def z_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Z-Image: lists of single pictures of one frame; time and velocity run from noise to the picture."""
    frames, words = list(noisy[:, :, None].unbind()), list(told["states"].unbind())
    return -torch.stack(pipeline.transformer(frames, 1 - level, words).sample)[:, :, 0]


def klein_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """FLUX.2 [klein]: states of three layers side by side."""
    states, places = pipeline.encode_prompt(prompt)
    return {"encoder_hidden_states": states, "txt_ids": places}


def klein_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """FLUX.2 [klein]."""
    places = pipeline._prepare_latent_ids(noisy).to(noisy.device)
    tokens = noisy.flatten(2).mT
    output = pipeline.transformer(tokens, timestep=level, img_ids=places, **told).sample
    return output.mT.reshape(noisy.shape)


def label_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """DiT: a class by name or number; without words, the class that stands for none."""
    count, words = pipeline.transformer.config.num_embeds_ada_norm, prompt.strip()
    label = pipeline.labels.get(words, int(words) if words.isdecimal() else -1) if words else count
    if not 0 <= label <= count:
        told = "{words} is no class of this model; give a number from 0 to {last}"
        raise InputError(Sentence(told, words=f"{words!r:.60}", last=count - 1))
    return {"class_labels": torch.tensor([label], device=pipeline.device)}


def label_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """DiT: half of the channels are a learned variance."""
    return pipeline.transformer(noisy, timestep=level, **told).sample


def nothing(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """DDPM reads no words."""
    return {"nothing": torch.zeros(1, device=pipeline.device)}


def wordless(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """DDPM."""
    return pipeline.unet(noisy, level).sample


CLIP = "CLIPTokenizer or CLIPTokenizerFast"
T5 = "T5Tokenizer or T5TokenizerFast"
GEMMA = "GemmaTokenizer or GemmaTokenizerFast"
QWEN = "Qwen2Tokenizer or Qwen2TokenizerFast"
PIXART = f"transformer: PixArtTransformer2DModel, vae: AutoencoderKL, text_encoder: T5EncoderModel, tokenizer: {T5}"
FAMILIES = {
    "StableDiffusionPipeline": Family(
        f"unet: UNet2DConditionModel, text_encoder: CLIPTextModel, vae: AutoencoderKL, tokenizer: {CLIP}",
        hidden_states, by_unet, together=True, anatomy=UNET,
    ),
    "StableDiffusionXLPipeline": Family(
        "unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, "
        f"text_encoder_2: CLIPTextModelWithProjection, tokenizer: {CLIP}, tokenizer_2: {CLIP}",
        xl_told, xl_output, anatomy=UNET,
    ),
    "StableDiffusion3Pipeline": Family(
        "transformer: SD3Transformer2DModel, vae: AutoencoderKL, text_encoder: CLIPTextModelWithProjection, "
        "text_encoder_2: CLIPTextModelWithProjection, text_encoder_3?: T5EncoderModel, "
        f"tokenizer: {CLIP}, tokenizer_2: {CLIP}, tokenizer_3?: {T5}",
        sd3_told, sd3_output, flow=True, anatomy=TWO_STREAMS,
    ),
    "FluxPipeline": Family(
        "transformer: FluxTransformer2DModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, "
        f"text_encoder_2: T5EncoderModel, tokenizer: {CLIP}, tokenizer_2: {T5}",
        flux_told, flux_output, flow=True, patch=2, anatomy=ONE_STREAM,
    ),
    "Flux2KleinPipeline": Family(
        "transformer: Flux2Transformer2DModel, vae: AutoencoderKLFlux2, text_encoder: Qwen3ForCausalLM, "
        f"tokenizer: {QWEN}",
        klein_told, klein_output, PATCHES, flow=True, patch=2, anatomy=ONE_STREAM,
    ),
    "QwenImagePipeline": Family(
        "transformer: QwenImageTransformer2DModel, vae: AutoencoderKLQwenImage, "
        f"text_encoder: Qwen2_5_VLForConditionalGeneration, tokenizer: {QWEN}",
        qwen_told, qwen_output, FRAMES, flow=True, patch=2, anatomy=ONE_STREAM,
    ),
    "ZImagePipeline": Family(
        "transformer: ZImageTransformer2DModel, vae: AutoencoderKL, text_encoder: Qwen3ForCausalLM or Qwen3Model, "
        f"tokenizer: {QWEN}",
        z_told, z_output, flow=True,
    ),
    "PixArtAlphaPipeline": Family(PIXART, masked_told, pixart_output, anatomy=READER),
    "PixArtSigmaPipeline": Family(PIXART, masked_told, pixart_output, anatomy=READER),
    "SanaPipeline": Family(
        "transformer: SanaTransformer2DModel, vae: AutoencoderDC, text_encoder: Gemma2Model or Gemma2ForCausalLM, "
        f"tokenizer: {GEMMA}",
        sana_told, sana_output, DEEP, flow=True, anatomy=READER,
    ),
    "Lumina2Pipeline": Family(
        "transformer: Lumina2Transformer2DModel, vae: AutoencoderKL, text_encoder: Gemma2Model or Gemma2ForCausalLM, "
        f"tokenizer: {GEMMA}",
        masked_told, lumina_output, flow=True,
    ),
    "DiTPipeline": Family(
        "transformer: DiTTransformer2DModel, vae: AutoencoderKL", label_told, label_output, reads="label",
        anatomy=WORDLESS,
    ),
    "DDPMPipeline": Family("unet: UNet2DModel", nothing, wordless, PIXELS, reads="nothing", anatomy=UNET),
}  # fmt: skip
