"""Build a tiny random pipeline of every family that is supported, a few thousand parameters each."""

from functools import cache

import diffusers
import torch
import transformers
from tokenizers import pre_tokenizers

from attribution.models.encoded import Encoded
from precompute.shipped.denoiser import new_tokenizer

WORDS = ["a cat", "a dog on the grass", "a red bird in the rain at night"]
FLOW = diffusers.FlowMatchEulerDiscreteScheduler


def vae(blocks=2, latent=4, **settings):
    """A KL autoencoder that halves a side for each block but the first."""
    return diffusers.AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=latent, norm_num_groups=4,
        block_out_channels=(8,) * blocks, down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks, **settings,
    )  # fmt: skip


@cache
def clip_tokenizer():
    return new_tokenizer(WORDS)


def clip(projected=False, width=32):
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    config = transformers.CLIPTextConfig(
        vocab_size=len(clip_tokenizer()), hidden_size=width, intermediate_size=32, projection_dim=32,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=24,
        bos_token_id=len(clip_tokenizer()) - 2, eos_token_id=len(clip_tokenizer()) - 1,
    )  # fmt: skip
    return kind(config)


def t5(width=32):
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    head = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = transformers.T5Tokenizer(vocab=head + letters, extra_ids=0)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=width, d_ff=32, d_kv=8, num_layers=1, num_heads=2
    )
    return transformers.T5EncoderModel(config), tokenizer


def gemma(width=8):
    head = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = [*head, "▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = transformers.GemmaTokenizer(vocab={word: i for i, word in enumerate(words)})
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16, head_dim=8,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    return transformers.Gemma2Model(config), tokenizer


def qwen_tokenizer():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)} | {"<|endoftext|>": len(letters)}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}.{% endfor %}"
    return tokenizer


def qwen3(tokenizer, layers):
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    return transformers.Qwen3ForCausalLM(config)


def scheduled(**settings):
    return diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", steps_offset=1, clip_sample=False, **settings
    )


def sd(**settings):
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=2,
    )  # fmt: skip
    return diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=clip(), tokenizer=clip_tokenizer(), unet=unet,
        scheduler=scheduled(**settings), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def sdxl(first=32, **settings):
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32 + first,
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(**settings), text_encoder=clip(width=first), text_encoder_2=clip(projected=True),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), unet=unet, scheduler=scheduled(),
    )  # fmt: skip


def sd3(large=True):
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
        joint_attention_dim=64, pooled_projection_dim=64, pos_embed_max_size=16,
    )  # fmt: skip
    encoder, tokenizer = t5(64) if large else (None, None)
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FLOW(shift=3.0), vae=vae(shift_factor=0.0609),
        text_encoder=clip(projected=True), text_encoder_2=clip(projected=True),
        text_encoder_3=encoder, tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(),
        tokenizer_3=tokenizer,
    )  # fmt: skip


def flux(dev=True):
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8), guidance_embeds=dev,
    )  # fmt: skip
    encoder, tokenizer = t5()
    return diffusers.FluxPipeline(
        transformer=transformer, scheduler=FLOW(use_dynamic_shifting=dev),
        vae=vae(shift_factor=0.1159), text_encoder=clip(), tokenizer=clip_tokenizer(),
        text_encoder_2=encoder, tokenizer_2=tokenizer,
    )  # fmt: skip


def klein():
    tokenizer = qwen_tokenizer()
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=48, timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKLFlux2(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(4, 4), layers_per_block=1,
        latent_channels=4, norm_num_groups=2,
    )  # fmt: skip
    autoencoder.bn.running_mean.uniform_(-1, 1)
    autoencoder.bn.running_var.uniform_(0.5, 2)
    return diffusers.Flux2KleinPipeline(
        scheduler=FLOW(), vae=autoencoder, text_encoder=qwen3(tokenizer, 28), tokenizer=tokenizer,
        transformer=transformer,
    )  # fmt: skip


def qwen():
    tokenizer = qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
        "out_hidden_size": 16,
    }  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.5, 2.0, 1.0],
    )  # fmt: skip
    return diffusers.QwenImagePipeline(
        scheduler=FLOW(use_dynamic_shifting=True), vae=autoencoder,
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config), tokenizer=tokenizer,
        transformer=transformer,
    )  # fmt: skip


def z_image():
    tokenizer = qwen_tokenizer()
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[1024, 32, 32],
    )  # fmt: skip
    for name in ("x_pad_token", "cap_pad_token"):  # the library leaves them as memory was
        torch.nn.init.normal_(getattr(transformer, name), std=0.02)
    return diffusers.ZImagePipeline(
        scheduler=FLOW(shift=3.0), vae=vae(shift_factor=0.1159),
        text_encoder=qwen3(tokenizer, 2), tokenizer=tokenizer, transformer=transformer,
    )  # fmt: skip


def umt5(width=32):
    encoder, tokenizer = t5(width)
    config = transformers.UMT5Config(**encoder.config.to_dict())
    return transformers.UMT5EncoderModel(config), tokenizer


def aura():
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=32,
        caption_projection_dim=16, pos_embed_max_size=64,
    )  # fmt: skip
    encoder, tokenizer = umt5()
    return diffusers.AuraFlowPipeline(tokenizer, encoder, vae(), transformer, FLOW(shift=1.73))


def pixart(sigma=False, sized=False):
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3,
        caption_channels=32, in_channels=4, cross_attention_dim=24, out_channels=8,
        use_additional_conditions=sized,
    )  # fmt: skip
    kind = diffusers.PixArtSigmaPipeline if sigma else diffusers.PixArtAlphaPipeline
    encoder, tokenizer = t5()
    return kind(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae(), transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )  # fmt: skip


def sana():
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2,
        attention_head_dim=4, num_cross_attention_heads=2, cross_attention_head_dim=4,
        cross_attention_dim=8, caption_channels=8, sample_size=16,  # its drawings take 32 pixels or more
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu",
        scaling_factor=0.41407,
    )  # fmt: skip
    encoder, tokenizer = gemma()
    return diffusers.SanaPipeline(tokenizer, encoder, autoencoder, transformer, FLOW(shift=3.0))


def lumina():
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=1,
        num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16,
        axes_dim_rope=(4, 2, 2), axes_lens=(300, 64, 64), cap_feat_dim=8,
    )  # fmt: skip
    encoder, tokenizer = gemma()
    return diffusers.Lumina2Pipeline(
        transformer, FLOW(shift=6.0), vae(4, shift_factor=0.1159), encoder, tokenizer
    )


def dit():
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2,
        in_channels=4, out_channels=8, num_embeds_ada_norm=10,
    )  # fmt: skip
    return diffusers.DiTPipeline(transformer, vae(), scheduled())


def ddpm(**settings):
    unet = diffusers.UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8,
    )  # fmt: skip
    return diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**settings))


FAMILIES = {
    "sd": sd,
    "sd v": lambda: sd(prediction_type="v_prediction"),
    "sd zero snr": lambda: sd(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    "sdxl": sdxl,
    "sdxl latents mean": lambda: sdxl(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[2.0, 1, 3, 4]),
    "sd3": sd3,
    "sd3 without t5": lambda: sd3(large=False),
    "flux dev": flux,
    "flux schnell": lambda: flux(dev=False),
    "flux2 klein": klein,
    "qwen": qwen,
    "z image": z_image,
    "aura": aura,
    "pixart alpha": pixart,
    "pixart told sizes": lambda: pixart(sized=True),
    "pixart sigma": lambda: pixart(sigma=True),
    "sana": sana,
    "lumina": lumina,
    "dit": dit,
    "ddpm": ddpm,
    "ddpm v": lambda: ddpm(prediction_type="v_prediction"),
}  # fmt: skip
LARGE = ("flux", "qwen", "z image", "aura")  # whose own pictures have 1024 pixels


def size_for(name):
    """Give the size that a tiny pipeline's pictures have in the tests; None for its own."""
    return (16, 16) if name.startswith(LARGE) else None


def saved(name, folder):
    """Save a tiny pipeline; its parameters are always the same."""
    torch.manual_seed(0)
    FAMILIES[name]().save_pretrained(folder)
    return folder


def prompts_of(name):
    """Give captions of unequal length, or labels."""
    return ["3", "7", "", "3"] if name == "dit" else [*WORDS, ""]


def exact(extractor, picture, prompt):
    """Build one picture's weight gradients by autograd, range by range, and project them."""
    config = extractor.config
    trials = extractor.trials(Encoded(extractor.model, [picture]), [prompt])
    steps = config.timesteps // config.ranges
    weights = [projection.layer.weight for projection in extractor.projector.projections]
    found = []
    for first in range(0, config.timesteps, steps):
        some = trials.at(slice(first, first + steps))
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            loss = extractor.objective(some.predict(extractor.model), some.target).sum() / steps
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        for weight in weights:
            weight.requires_grad_(False)
        for projection, gradient in zip(extractor.projector.projections, gradients, strict=True):
            found.append(projection.project(gradient[None])[0])
    return torch.stack(found)
