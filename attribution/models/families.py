"""The table of families: what a pipeline class is made of, what its denoiser is told, and how it is called.

A family is a row of data, which names two functions; most are shared. In: a pipeline, a prompt; or a pipeline, noisy
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
Tell = Callable[[DiffusionPipeline, Any], Told]
GUIDANCE = 3.5  # that a guidance-distilled denoiser is told in training (diffusers' train_dreambooth_lora_flux.py)


@dataclass(frozen=True)
class Family:
    """One pipeline class."""

    parts: str  # "part: Class or Other, ..." beside tokenizers and scheduler; a part with a "?" may be missing
    told: Tell  # of a prompt
    output: Callable[[DiffusionPipeline, Tensor, Tensor, Told], Tensor]
    encoding: Encoding = SCALED
    flow: bool = False
    patch: int = 1  # sides of the squares of latents that the denoiser's channels hold
    reads: str = "prompt"  # or label, or nothing
    together: bool = False  # whether `told` takes a list of prompts
    anatomy: Anatomy = UNKNOWN  # what its layers' names mean
    side: int = 0  # pixels of its drawings, where its network's config does not say them

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Give the classes that each part may have; a text encoder has a tokenizer."""
        pairs = [part.replace("?", "").split(": ") for part in self.parts.split(", ")]
        found = {part: tuple(names.split(" or ")) for part, names in pairs}
        read = {tokenizer_of(p): TOKENIZERS[kinds[0]] for p, kinds in found.items() if "text" in p}
        return found | read

    @property
    def optional(self) -> set[str]:
        """Name the parts that may be missing."""
        named = [part.split("?")[0] for part in self.parts.split(", ") if "?" in part]
        return {*named, *map(tokenizer_of, named)}

    @property
    def maps(self) -> bool:
        """Tell whether layers' positions lie in the picture; a transformer's may be words and picture in one."""
        return self.anatomy.placed

    @property
    def networks(self) -> list[str]:
        """Name the parts that have parameters, the denoiser first."""
        return [part for part in self.classes if not part.startswith("tokenizer")]


def tokenizer_of(encoder: str) -> str:
    """Name the tokenizer of a text encoder."""
    return encoder.replace("text_encoder", "tokenizer")


def named(names: str) -> Tell:
    """Tell what a pipeline's own `encode_prompt` gives, by these names in its order; _ is left out, as is what comes after them.

    All text encoders read the one prompt, after the instruction that drawings give it, if they do.
    """

    def told(pipeline: DiffusionPipeline, prompt: str) -> Told:
        taken = inspect.signature(pipeline.encode_prompt).parameters
        drawing = inspect.signature(type(pipeline).__call__).parameters
        given = dict.fromkeys(("prompt", "prompt_2", "prompt_3"), prompt)
        given |= {n: drawing[n].default for n in ("complex_human_instruction",) if n in drawing}
        given["do_classifier_free_guidance"] = False
        found = pipeline.encode_prompt(**{n: value for n, value in given.items() if n in taken})
        rows = zip(names.split(), found, strict=False)
        return {n: row[0][None] if isinstance(row, list) else row for n, row in rows if n != "_"}

    return told


def by_denoiser(
    pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told, **more: object
) -> Tensor:
    """Call the denoiser with what it is told, by the names that it knows."""
    network = getattr(pipeline, "transformer", None) or pipeline.unet
    return network(noisy, timestep=level, **told, **more).sample


def packed(latents: Float[Tensor, "row c h w"]) -> Float[Tensor, "row token channel"]:
    """Give squares of 2 x 2 latents as tokens."""
    squares = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [row, c, h/2, 2, w/2, 2]
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Float[Tensor, "row token channel"], like: Tensor) -> Tensor:
    """Give tokens the places that `packed` took them from."""
    squares = tokens.unflatten(2, (-1, 2, 2)).unflatten(1, (like.shape[2] // 2, -1))
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)


def in_tokens(noisy: Tensor) -> list[int]:
    """Give the height and width in squares of 2 x 2 latents."""
    return [side // 2 for side in noisy.shape[2:]]


def guided(pipeline: DiffusionPipeline, like: Tensor) -> Tensor | None:
    """Give the guidance that a distilled denoiser is told."""
    distilled = pipeline.transformer.config.guidance_embeds
    return like.new_full(like.shape[:1], GUIDANCE) if distilled else None


def in_pixels(pipeline: DiffusionPipeline, noisy: Tensor) -> list[int]:
    """Give the height and width of the picture."""
    return [side * pipeline.vae_scale_factor for side in noisy.shape[2:]]


def hidden_states(pipeline: DiffusionPipeline, prompts: list[str]) -> Told:
    """Stable Diffusion 1 and 2; a word of a textual inversion may stand for several."""
    words = pipeline.maybe_convert_prompt(prompts, pipeline.tokenizer)
    asked = pipeline.tokenizer(words, padding="max_length", truncation=True, return_tensors="pt")
    return {"encoder_hidden_states": pipeline.text_encoder(asked.input_ids.to(pipeline.device))[0]}


def xl_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """SDXL: the picture is told to be as large as it is, and not cropped."""
    size = in_pixels(pipeline, noisy)
    sizes = noisy.new_tensor([[*size, 0, 0, *size]]).expand(len(noisy), -1)
    added = {"text_embeds": told["pooled"], "time_ids": sizes}
    return pipeline.unet(noisy, level, told["states"], added_cond_kwargs=added).sample


def sd3_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Stable Diffusion 3."""
    return by_denoiser(pipeline, noisy, 1000 * level, told)


def flux_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """FLUX.1, dev and schnell."""
    places = pipeline._prepare_latent_image_ids(1, *in_tokens(noisy), noisy.device, noisy.dtype)
    words = noisy.new_zeros(told["encoder_hidden_states"].shape[1], 3)
    asked = {"txt_ids": words, "img_ids": places, "guidance": guided(pipeline, noisy)}
    return unpacked(by_denoiser(pipeline, packed(noisy), level, told, **asked), noisy)


def pixart_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """PixArt: the larger of its networks are told the size; half of the channels are a learned variance."""
    added = {"resolution": None, "aspect_ratio": None}
    if pipeline.transformer.use_additional_conditions:
        sizes = noisy.new_tensor([in_pixels(pipeline, noisy)]).expand(len(noisy), -1)
        added = {"resolution": sizes, "aspect_ratio": sizes[:, :1] / sizes[:, 1:]}
    return by_denoiser(pipeline, noisy, level, told, added_cond_kwargs=added)


def sana_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Sana."""
    time = 1000 * level * pipeline.transformer.config.timestep_scale
    return by_denoiser(pipeline, noisy, time, told)


def lumina_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Lumina 2: time runs from noise to the picture, and so does its velocity."""
    return -by_denoiser(pipeline, noisy, 1 - level, told)


def qwen_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Qwen-Image."""
    shapes = [[(1, *in_tokens(noisy))]] * len(noisy)
    asked = {"img_shapes": shapes, "guidance": guided(pipeline, noisy)}
    return unpacked(by_denoiser(pipeline, packed(noisy), level, told, **asked), noisy)


def z_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """Z-Image: lists of single pictures of one frame; time and velocity run from noise to the picture."""
    frames, words = list(noisy[:, :, None].unbind()), list(told["states"].unbind())
    return -torch.stack(pipeline.transformer(frames, 1 - level, words).sample)[:, :, 0]


def klein_output(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """FLUX.2 [klein]."""
    places = pipeline._prepare_latent_ids(noisy).to(noisy.device)
    output = by_denoiser(pipeline, noisy.flatten(2).mT, level, told, img_ids=places)
    return output.mT.reshape(noisy.shape)


def label_told(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """DiT: a class by name or number; without words, the class that stands for none."""
    count, words = pipeline.transformer.config.num_embeds_ada_norm, prompt.strip()
    label = pipeline.labels.get(words, int(words) if words.isdecimal() else -1) if words else count
    if not 0 <= label <= count:
        told = "{words} is no class of this model; give a number from 0 to {last}"
        raise InputError(Sentence(told, words=f"{words!r:.60}", last=count - 1))
    return {"class_labels": torch.tensor([label], device=pipeline.device)}


def nothing(pipeline: DiffusionPipeline, prompt: str) -> Told:
    """DDPM reads no words."""
    return {"nothing": torch.zeros(1, device=pipeline.device)}


def wordless(pipeline: DiffusionPipeline, noisy: Tensor, level: Tensor, told: Told) -> Tensor:
    """DDPM."""
    return pipeline.unet(noisy, level).sample


CLIP = ("CLIPTokenizer", "CLIPTokenizerFast")
T5 = ("T5Tokenizer", "T5TokenizerFast")
QWEN = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
TOKENIZERS = {  # by the first class of a text encoder
    "CLIPTextModel": CLIP, "CLIPTextModelWithProjection": CLIP, "T5EncoderModel": T5,
    "UMT5EncoderModel": (*T5, "LlamaTokenizer", "LlamaTokenizerFast"),
    "Gemma2Model": ("GemmaTokenizer", "GemmaTokenizerFast"),
    "Qwen2_5_VLForConditionalGeneration": QWEN, "Qwen3ForCausalLM": QWEN,
}  # fmt: skip
LEGACY = (
    "Transformer2DModel"  # that diffusers saved what is now a PixArt's or a DiT's transformer as
)
FORMER = {
    "Lumina2Text2ImgPipeline": "Lumina2Pipeline"
}  # names of classes, and what they are called now
PIXART = f"transformer: PixArtTransformer2DModel or {LEGACY}, vae: AutoencoderKL, text_encoder: T5EncoderModel"
FAMILIES = {
    "StableDiffusionPipeline": Family(
        "unet: UNet2DConditionModel, text_encoder: CLIPTextModel, vae: AutoencoderKL",
        hidden_states, by_denoiser, together=True, anatomy=UNET,
    ),
    "StableDiffusionXLPipeline": Family(
        "unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, text_encoder_2: CLIPTextModelWithProjection",
        named("states _ pooled"), xl_output, anatomy=UNET,
    ),
    "StableDiffusion3Pipeline": Family(
        "transformer: SD3Transformer2DModel, vae: AutoencoderKL, text_encoder: CLIPTextModelWithProjection, "
        "text_encoder_2: CLIPTextModelWithProjection, text_encoder_3?: T5EncoderModel",
        named("encoder_hidden_states _ pooled_projections"), sd3_output, flow=True, anatomy=TWO_STREAMS,
    ),
    "FluxPipeline": Family(
        "transformer: FluxTransformer2DModel, vae: AutoencoderKL, text_encoder: CLIPTextModel, text_encoder_2: T5EncoderModel",
        named("encoder_hidden_states pooled_projections"), flux_output, flow=True, patch=2, anatomy=ONE_STREAM,
    ),
    "Flux2KleinPipeline": Family(
        "transformer: Flux2Transformer2DModel, vae: AutoencoderKLFlux2, text_encoder: Qwen3ForCausalLM",
        named("encoder_hidden_states txt_ids"), klein_output, PATCHES, flow=True, patch=2, anatomy=ONE_STREAM,
    ),
    "QwenImagePipeline": Family(
        "transformer: QwenImageTransformer2DModel, vae: AutoencoderKLQwenImage, text_encoder: Qwen2_5_VLForConditionalGeneration",
        named("encoder_hidden_states"), qwen_output, FRAMES, flow=True, patch=2, anatomy=ONE_STREAM,
    ),
    "ZImagePipeline": Family(
        "transformer: ZImageTransformer2DModel, vae: AutoencoderKL, text_encoder: Qwen3ForCausalLM or Qwen3Model",
        named("states"), z_output, flow=True,
    ),
    "AuraFlowPipeline": Family(
        "transformer: AuraFlowTransformer2DModel, vae: AutoencoderKL, text_encoder: UMT5EncoderModel",
        named("encoder_hidden_states"), by_denoiser, flow=True, anatomy=ONE_STREAM, side=1024,
    ),
    "PixArtAlphaPipeline": Family(
        PIXART, named("encoder_hidden_states encoder_attention_mask"), pixart_output, anatomy=READER
    ),
    "PixArtSigmaPipeline": Family(
        PIXART, named("encoder_hidden_states encoder_attention_mask"), pixart_output, anatomy=READER
    ),
    "SanaPipeline": Family(
        "transformer: SanaTransformer2DModel, vae: AutoencoderDC, text_encoder: Gemma2Model or Gemma2ForCausalLM",
        named("encoder_hidden_states encoder_attention_mask"), sana_output, DEEP, flow=True, anatomy=READER,
    ),
    "Lumina2Pipeline": Family(
        "transformer: Lumina2Transformer2DModel, vae: AutoencoderKL, text_encoder: Gemma2Model or Gemma2ForCausalLM",
        named("encoder_hidden_states encoder_attention_mask"), lumina_output, flow=True,
    ),
    "DiTPipeline": Family(f"transformer: DiTTransformer2DModel or {LEGACY}, vae: AutoencoderKL",
                          label_told, by_denoiser, reads="label", anatomy=WORDLESS),
    "DDPMPipeline": Family("unet: UNet2DModel", nothing, wordless, PIXELS, reads="nothing", anatomy=UNET),
}  # fmt: skip
