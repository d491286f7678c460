"""Load what people train beside a model: LoRAs, textual inversions, or another state of its denoiser, from safetensors.

In: a pipeline and the names of adapters, each a file, a folder or a Hub id. A model with adapters is named by one text,
MODEL+ADAPTER+ADAPTER, wherever a model is named. Every number of an adapter must find its place in the model, or the
adapter is of another base and refused. It knows no gradients.
"""
# What diffusers says of its pipelines' loaders is narrower than what they are:
# pyright: reportAttributeAccessIssue=false

import os.path
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open
from torch import nn

from attribution.errors import InputError
from attribution.pictures.hub import DENOISERS, fetched, is_hub_id

BETWEEN = "+"
LORA, INVERSION, STATE = "a LoRA", "a textual inversion", "a denoiser's state"
MARKS = ("lora", "lokr", "hada")
PARTS = re.compile(
    r"lora[._](A|B|down|up|magnitude_vector)"
)  # of the tensors that must find a place
OWN_LAYER = re.compile(r"\.lora_[AB]\.")  # a layer that belongs to an adapter
WITHIN = re.compile(r"\.(base_layer|lora_[AB]\.[^.]+)(?=\.|$)")
BY_ENCODER = {"clip_l": "", "clip_g": "_2"}  # vectors of a word for each of SDXL's text encoders
USUAL = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors")


def split_name(name: str | Path) -> tuple[str, list[str]]:
    """Tell a model from its adapters; where a file or folder is there whose own name has a plus, it is meant."""
    parts, names = str(name).split(BETWEEN), []
    while parts:
        ends = range(len(parts), 0, -1)
        end = next((end for end in ends if _is_there(BETWEEN.join(parts[:end]))), 1)
        names.append(BETWEEN.join(parts[:end]))
        parts = parts[end:]
    if not all(names):
        raise InputError(f"{name} names no adapter, or no model; give MODEL{BETWEEN}ADAPTER")
    return names[0], names[1:]


def _is_there(name: str) -> bool:
    """Tell whether a file or folder, or both of FILE@CONFIG, are on this machine."""
    return os.path.exists(name) or all(map(os.path.exists, name.split("@")))


def joined(model: str, adapters: list[str]) -> str:
    """Name a model with its adapters."""
    return BETWEEN.join([model, *adapters])


def add(pipeline: DiffusionPipeline, adapters: list[str]) -> None:
    """Load adapters into a pipeline, all of them at full strength, a denoiser's state before what is added to it."""
    loaded, own = [], {*denoiser_of(pipeline).state_dict()}
    files = [(path, tensor_names(path)) for path in map(file_of, adapters)]
    files.sort(key=lambda each: kind_of(each[1], own) != STATE)
    for number, (path, names) in enumerate(files):
        kind = kind_of(names, own)
        if kind is None:
            raise InputError(
                f"{path} is neither a LoRA, nor a textual inversion of one word, nor all of the denoiser's parameters; save "
                "it by diffusers (save_lora_weights, a textual inversion script, or save_pretrained)"
            )
        if kind == INVERSION and next(denoiser_of(pipeline).parameters()).is_meta:
            continue  # a model on paper holds no numbers, and a few vectors more take no room
        load = {LORA: _load_lora, INVERSION: _load_inversion, STATE: _load_state}[kind]
        try:
            load(pipeline, path, names, f"adapter_{number}")
        except InputError:
            raise
        except (
            Exception
        ) as error:  # whatever the libraries make of a file that anybody may have made
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path} does not fit this model: {reason:.300}") from error
        loaded += [f"adapter_{number}"] if kind == LORA else []
    if len(loaded) > 1:
        pipeline.set_adapters(loaded)


def file_of(name: str) -> Path:
    """Find an adapter's file: named itself, or the usual or the only one of a folder or a Hub repository."""
    if is_hub_id(name):
        folder = fetched(name, "model", ["*.safetensors"])
    else:
        folder = Path(name)
        if folder.is_file():
            if folder.suffix != ".safetensors":
                raise InputError(f"{name} is no safetensors file; save the adapter as one")
            return folder
        if not folder.is_dir():
            raise InputError(f"there is no adapter {name:.300}; check the path")
    found = sorted(folder.glob("*.safetensors"))
    usual = [path for path in found if path.name in USUAL]
    if len(chosen := usual or found) != 1:
        what = ", ".join(path.name for path in chosen) or "no safetensors file"
        raise InputError(f"{name} holds {what}; name the adapter's one file")
    return chosen[0]


def tensor_names(path: Path) -> list[str]:
    """List a file's tensors."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors; save the adapter again") from error


def denoiser_of(pipeline: DiffusionPipeline) -> nn.Module:
    """Give the network that draws, by the names that pipelines have for it."""
    return next(filter(None, (getattr(pipeline, name, None) for name in DENOISERS)))


def kind_of(names: list[str], denoiser: set[str]) -> str | None:
    """Tell by its tensors' names what a file holds, or by those of the model's denoiser."""
    if {*names} == denoiser:
        return STATE
    if any(mark in name.lower() for name in names for mark in MARKS):
        return LORA
    return INVERSION if len(names) == 1 or {*names} == {*BY_ENCODER} else None


def is_own(layer: str) -> bool:
    """Tell whether a layer belongs to an adapter."""
    return bool(OWN_LAYER.search(f".{layer}."))


def plain(layer: str) -> str:
    """Give the name that a layer, or its part in an adapter, has in the model alone."""
    return WITHIN.sub("", layer)


def strengths(networks: list[nn.Module]) -> list[tuple[str, dict[str, float]]]:
    """Give how much each LoRA counts in each layer, which no parameter holds."""
    return [
        (name, dict(sorted(module.scaling.items())))
        for network in networks
        for name, module in network.named_modules()
        if isinstance(getattr(module, "scaling", None), dict) and module.scaling
    ]


def _load_lora(pipeline: Any, path: Path, names: list[str], adapter: str) -> None:
    if find_spec("peft") is None:
        raise InputError(f"{path} is a LoRA, which peft loads; run pip install peft")
    if not hasattr(pipeline, "load_lora_weights"):
        raise InputError(f"a {type(pipeline).__name__} takes no LoRA; fuse it into the model first")
    pipeline.load_lora_weights(
        path.parent, weight_name=path.name, adapter_name=adapter, use_safetensors=True,
        local_files_only=True,
    )  # fmt: skip
    wanted = sum(bool(PARTS.search(name)) for name in names)
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    found = sum(
        f".{adapter}." in f"{name}."
        for network in networks
        for name, _ in network.named_parameters()
    )
    if not wanted:
        raise InputError(f"{path} holds no lora_A and lora_B; of adapters, LoRAs are supported")
    if found < wanted:
        raise InputError(
            f"{path} has {wanted} parts of which {found} find a place in this model; it is a LoRA of another base"
        )


def _load_state(pipeline: Any, path: Path, names: list[str], _: str) -> None:
    denoiser = denoiser_of(pipeline)
    with safe_open(path, "pt") as file:  # shapes that differ are refused
        denoiser.load_state_dict({name: file.get_tensor(name) for name in names})


def _load_inversion(pipeline: Any, path: Path, names: list[str], _: str) -> None:
    if not hasattr(pipeline, "load_textual_inversion"):
        raise InputError(f"a {type(pipeline).__name__} takes no textual inversion")
    ends = BY_ENCODER if {*names} == {*BY_ENCODER} else {names[0]: ""}
    encoders = [p for p, part in pipeline.components.items() if part and p.startswith("text_")]
    if len(ends) != len(encoders):
        raise InputError(
            f"{path} is a textual inversion for {len(ends)} text encoder{'s' * (len(ends) > 1)}, and a {type(pipeline).__name__} "
            f"has {len(encoders)}, of which the rest would not know its word; take one that was made for it"
        )
    with safe_open(path, "pt") as file:
        for name, end in ends.items():
            word = f"<{path.stem}>" if name in ("emb_params", *BY_ENCODER) else name
            reader = {
                part: getattr(pipeline, f"{part}{end}") for part in ("tokenizer", "text_encoder")
            }
            pipeline.load_textual_inversion({word: file.get_tensor(name)}, **reader)
