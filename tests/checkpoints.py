"""Write a tiny pipeline's parameters into one file by the names of the original code, as checkpoints are shared.

The names are those of diffusers' own script (scripts/convert_diffusers_to_original_stable_diffusion.py), which is not in
its package; the library goes the other way.
"""

import re

import diffusers
import torch
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
}  # fmt: skip
OPEN_CLIP = {
    "text_model.encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", ".self_attn": ".attn",
    "text_model.final_layer_norm": "ln_final", "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
}  # fmt: skip


def swapped(text, names):
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def unet_name(name, layers, attends):
    """Name a UNet's parameter; `layers` is the number of resnets in a block that goes down."""
    start, end = name.rpartition(".")[::2]
    if start in ENDS:
        return f"{ENDS[start]}.{end}"
    if middle := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.", name):
        place = 2 * int(middle[2]) if middle[1] == "resnets" else 1
        rest = name[middle.end() :]
        return f"middle_block.{place}.{rest if place == 1 else swapped(rest, RESNET)}"
    way, block, kind, place = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)", name).groups()
    rest, width = name.split(f"{kind}.{place}.", 1)[1], layers + 1
    if kind == "downsamplers":
        return f"input_blocks.{width * (int(block) + 1)}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{width * int(block) + layers}.{2 if attends(block) else 1}.{rest}"
    number = width * int(block) + int(place) + (way == "down")
    first = f"{'input' if way == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}"
    return f"{first}.{swapped(rest, RESNET) if kind == 'resnets' else rest}"


def vae_name(name, blocks):
    """Name an autoencoder's parameter."""
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        return swapped(name.replace("mid_block.attentions.0", "mid.attn_1"), ATTENTION)
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{blocks - 1 - int(m[1])}", name)
    names = {
        "down_blocks": "down", "resnets": "block", "downsamplers.0": "downsample", "upsamplers.0": "upsample",
        "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out",
    }  # fmt: skip
    return swapped(name, names)


def open_clip(tensors):
    """Name the second text encoder's parameters, whose attention has its three inputs in one."""
    found = {}
    for name, value in tensors.items():
        fused = re.sub(r"\.[qkv]_proj\.", ".in_proj_", name)
        if name.startswith("text_projection"):
            found["text_projection"] = value.T.contiguous()
        elif fused != name:
            parts = [tensors[fused.replace("in_proj_", f"{part}_proj.")] for part in "qkv"]
            found[swapped(fused, OPEN_CLIP)] = torch.cat(parts)
        else:
            found[swapped(name, OPEN_CLIP)] = value
    return found


def original(folder, path):
    """Write what Stable Diffusion 1 or SDXL would be shared as."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    unet, found = pipeline.unet, {}
    attends = lambda block: hasattr(unet.up_blocks[int(block)], "attentions")  # noqa: E731
    for name, value in unet.state_dict().items():
        where = unet_name(name, unet.config.layers_per_block, attends)
        found[f"model.diffusion_model.{where}"] = value
    for name, value in pipeline.vae.state_dict().items():
        where = vae_name(name, len(pipeline.vae.config.block_out_channels))
        attention = ".attn_1." in where and value.ndim == 2
        found[f"first_stage_model.{where}"] = value[:, :, None, None] if attention else value
    large = hasattr(pipeline, "text_encoder_2")
    first = "conditioner.embedders.0" if large else "cond_stage_model"
    for name, value in pipeline.text_encoder.state_dict().items():
        found[f"{first}.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    if large:
        second = open_clip(pipeline.text_encoder_2.state_dict())
        found |= {f"conditioner.embedders.1.model.{name}": value for name, value in second.items()}
    save_file({name: value.clone() for name, value in found.items()}, path)
    return path


def configs_of(folder, output, keep=()):
    """Copy a pipeline's configs and tokenizers, and of its parameters those of some parts alone."""
    for source in folder.rglob("*"):
        place = source.relative_to(folder)
        if source.is_file() and (source.suffix != ".safetensors" or place.parts[0] in keep):
            (output / place).parent.mkdir(parents=True, exist_ok=True)
            (output / place).write_bytes(source.read_bytes())
    return output
