"""Check a model folder in diffusers' format, then load its parts.

In: a folder that anybody may have made. Out: a pipeline, or one sentence that says what stands in
the way. Classes are named here, never taken from the folder; only JSON, a tokenizer's text and safetensors are read;
and what a config asks for is counted before a byte is allocated for it. It knows no pictures and no prompts.
"""

import inspect
import os
import re
from pathlib import Path
from typing import Any

import diffusers
import psutil
import torch
import transformers
from diffusers import DiffusionPipeline, SchedulerMixin
from safetensors import SafetensorError, safe_open

from attribution.errors import InputError
from attribution.models.adapters import split_name
from attribution.models.configs import (
    FEWEST_TIMESTEPS,
    MOST_TEXT_BYTES,
    UNASKED,
    check_configs,
    class_of,
    read_config,
)
from attribution.models.families import FAMILIES, LEGACY
from attribution.models.precision import PRECISIONS
from attribution.models.quantised import KEY
from attribution.models.single_file import SingleFile, located
from attribution.quiet import without_bars

ADDED = {
    "pytorch_lora_weights": "a LoRA", "adapter_model": "a LoRA", "adapter_config": "a LoRA",
    "learned_embeds": "a textual inversion",
}  # fmt: skip


def check(folder: Path) -> None:
    """Refuse a folder whose configs describe anything that is not supported; read no parameters."""
    _check_additions(folder)
    if not (folder / "model_index.json").exists():
        raise InputError(
            f"the model folder {folder} has no model_index.json{_alone(folder)}; save the whole pipeline"
        )
    _check_links(folder, [folder / "model_index.json"])
    family = FAMILIES.get(class_of(folder))
    parts = (*family.classes, "scheduler") if family else ()
    _check_links(folder, [p for part in parts for p in (folder / part, *(folder / part).glob("*"))])
    check_configs(folder, family)


def _alone(folder: Path) -> str:
    """Say which network a folder holds alone, such as a ControlNet."""
    path = folder / "config.json"
    _check_links(folder, [path])
    name = read_config(path).get("_class_name") if path.is_file() else None
    return f", but the config of a {name!s:.60}" if name else ""


def class_named(name: str | Path) -> str:
    """Name the class of a model's pipeline, by its folder or its Hub id, once its configs were checked."""
    folder, _ = located(split_name(name)[0], check)
    check(folder)
    return class_of(folder)


def load(
    folder: Path, precision: str = "fp32", device: str = "cpu", file: SingleFile | None = None
) -> DiffusionPipeline:
    """Load a folder's parts by the classes that are supported; every parameter must be there, and find room.

    What a single file holds of them is taken from it.
    """
    check(folder)
    networks = networks_of(folder)
    _check_room(folder, _check_parameters(folder, networks, file), precision, device)
    found = {}
    for part, kind in networks.items():
        held = file if file and file.holds(part, kind) else None
        found[part] = _network(folder / part, kind, precision, held)
    return _assembled(folder, found)


def described(folder: Path, precision: str = "fp32") -> DiffusionPipeline:
    """Put a folder's parts together from its configs alone, networks without numbers (on torch's meta device)."""
    check(folder)
    found = {}
    for part, kind in networks_of(folder).items():
        found[part] = _outline(folder / part, kind).to(PRECISIONS[precision])
        if hasattr(found[part], "set_attn_implementation"):  # others look into masks for numbers
            found[part].set_attn_implementation("eager")
    return _assembled(folder, found)


def networks_of(folder: Path) -> dict[str, str]:
    """Give the class of each part that has parameters, the denoiser first."""
    return {k: v for k, v in _classes(folder).items() if k in FAMILIES[class_of(folder)].networks}


def _classes(folder: Path) -> dict[str, str]:
    """Give the class of each part but the sampler, in the family's order."""
    index = read_config(folder / "model_index.json")
    parts = FAMILIES[class_of(folder)].classes
    named = {part: index[part][1] for part in parts if (index.get(part) or [None])[0]}
    return {part: parts[part][0] if kind == LEGACY else kind for part, kind in named.items()}


def _assembled(folder: Path, networks: dict[str, torch.nn.Module]) -> DiffusionPipeline:
    """Add tokenizers and sampler to networks, and make the pipeline."""
    index, name = read_config(folder / "model_index.json"), class_of(folder)
    family = FAMILIES[name]
    found: dict[str, Any] = dict.fromkeys(family.classes) | networks
    try:
        sampler = getattr(diffusers, index["scheduler"][1])
        found["scheduler"] = sampler.from_pretrained(folder / "scheduler", local_files_only=True)
        if not family.flow:
            _try(found["scheduler"])
        for part, kind in _classes(folder).items():
            if part not in networks:
                encoder = found[part.replace("tokenizer", "text_encoder")]
                found[part] = _tokenizer(folder / part, _class(kind), encoder)
    except InputError:
        raise
    except Exception as error:  # whatever the libraries make of a folder that anybody may have made
        raise _not_loaded(folder, error) from error
    pipeline = getattr(diffusers, name)
    asked = inspect.signature(pipeline.__init__).parameters
    settings = {k: v for k, v in index.items() if k in asked and not isinstance(v, list)}
    unasked = {part: None for part in UNASKED if part in asked}
    if "requires_safety_checker" in asked:
        settings["requires_safety_checker"] = False
    return pipeline(**settings | unasked | found)


def _class(name: str) -> Any:
    """Give a class of diffusers or transformers; only names of the table come here."""
    return getattr(diffusers, name, None) or getattr(transformers, name)


def _tokenizer(folder: Path, kind: Any, encoder: torch.nn.Module) -> Any:
    """Load a tokenizer that fits its text encoder; CLIP's cuts prompts at its encoder's limit."""
    tokenizer = kind.from_pretrained(folder, local_files_only=True)
    words = encoder.get_input_embeddings().num_embeddings
    if "CLIP" in kind.__name__:
        most = encoder.config.max_position_embeddings
        longest = min(int(tokenizer.model_max_length), most)
        if longest < 2:  # a prompt's start and end
            raise ValueError(f"the tokenizer's model_max_length is {longest}")
        tokenizer.model_max_length = longest
        tokenizer([""], padding="max_length", truncation=True)  # raises what prompts would
    if max(tokenizer.get_vocab().values()) >= words:
        raise InputError(
            f"the {folder.name} of {folder.parent} knows more words than its text encoder, {words}; "
            "save both of one pipeline"
        )
    return tokenizer


def _network(
    folder: Path, kind: str, precision: str, file: SingleFile | None = None
) -> torch.nn.Module:
    """Load a network's parameters, every one of them."""
    if file:
        try:
            return file.network(folder.name, kind, folder.parent, precision)
        except InputError:
            raise
        except Exception as error:  # whatever the libraries make of any file
            raise _not_loaded(f"{file.path} with the configs of {folder.parent}", error) from error
    options = {
        "use_safetensors": True,
        "local_files_only": True,
        "torch_dtype": PRECISIONS[precision],
    }
    options["variant"] = _variant(folder, _stem(kind))
    try:
        with without_bars():
            network, about = _class(kind).from_pretrained(
                folder, output_loading_info=True, **options
            )
    except Exception as error:  # as above
        raise _not_loaded(folder, error) from error
    if missing := sorted(about["missing_keys"]):
        raise InputError(
            f"{folder} lacks {len(missing)} parameters ({missing[0]}); save the pipeline again"
        )
    return network


@torch.no_grad()
def _try(sampler: SchedulerMixin) -> None:
    """Draw nothing with a copy of a sampler, which raises what its settings would raise later."""
    trial = type(sampler).from_config(sampler.config)
    trial.set_timesteps(FEWEST_TIMESTEPS)
    sample = torch.zeros(1, 1, 8, 8)
    with torch.random.fork_rng(devices=[]):
        for timestep in trial.timesteps:
            seen = trial.scale_model_input(sample, timestep)
            sample = trial.step(torch.zeros_like(seen), timestep, sample).prev_sample


def _not_loaded(folder: Path | str, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(f"no diffusers pipeline could be loaded from {folder}: {reason:.300}")


def _check_additions(folder: Path) -> None:
    """Refuse a LoRA or a textual inversion that lies beside the model and would not be loaded."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        kind = next((kind for name, kind in ADDED.items() if path.name.startswith(name)), None)
        if not kind and path.parent == folder and path.suffix == ".safetensors" and path.is_file():
            kind = _kind_of(path)
        if kind:
            raise InputError(
                f"{path} is {kind} beside the model, which would not count; move it into a folder of its own and "
                "name it by --adapter (the model is then MODEL+ADAPTER), or remove it"
            )


def _kind_of(path: Path) -> str | None:
    """Tell by its tensors' names what a file beside the parts holds; a whole checkpoint is none of them."""
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError):
        return None  # it is not read
    if any(mark in name.lower() for name in names for mark in ("lora", "lokr", "hada")):
        return "a LoRA"
    return "a textual inversion" if 0 < len(names) < 3 else None


def _check_links(folder: Path, paths: list[Path]) -> None:
    """Refuse links that lead outside and what is no regular file, such as a pipe, which would never end."""
    inside = [os.path.realpath(folder)]
    if folder.resolve().parent.name == "snapshots":  # the Hub's cache links to files beside it
        inside.append(os.path.realpath(folder.resolve().parents[1] / "blobs"))
    for path in paths:
        real = os.path.realpath(path)
        if not any(real.startswith(place + os.sep) for place in inside):
            raise InputError(f"{path} is a link that leads outside {folder}; copy the file there")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is no regular file; save the pipeline again")


def _check_parameters(
    folder: Path, networks: dict[str, str], file: SingleFile | None
) -> dict[str, int]:
    """Count each part's parameters; refuse what is pickled, elsewhere or fewer than the config describes."""
    counts = {}
    for part, kind in networks.items():
        own = not (file and file.holds(part, kind))
        paths = _parameter_files(folder / part, _stem(kind)) if own else [file.path]
        held = sum(path.stat().st_size for path in paths)
        wanted = sum(each.numel() for each in _outline(folder / part, kind).parameters())
        if wanted > held:  # a parameter takes a byte or more
            raise InputError(
                f"the config of {part} in {folder} describes {wanted} parameters and its files hold {held} bytes; "
                "save the pipeline again"
            )
        counts[part] = wanted
    return counts


def _check_room(folder: Path, counts: dict[str, int], precision: str, device: str) -> None:
    """Refuse a model whose parameters alone do not fit into the device's memory, and say what would."""
    free = free_bytes(device)
    needed = {name: sum(bytes_of(folder, counts, name).values()) for name in PRECISIONS}
    if needed[precision] <= free:
        return
    parts = ", ".join(f"{part} {count / 1e6:,.0f} M" for part, count in counts.items())
    smaller = [name for name, size in needed.items() if size <= free]
    advice = f"give --precision {smaller[0]}" if smaller else "take a machine or a device with more"
    raise InputError(
        f"{folder} has {parts} parameters, {needed[precision] / 1e9:.1f} GB in {precision}, and {device} has "
        f"{free / 1e9:.1f} GB free; {advice} (--dry_run says more)"
    )


def bytes_of(folder: Path, counts: dict[str, int], precision: str) -> dict[str, int]:
    """Give the bytes that each part's parameters take; of a quantised part one for each."""
    paths = {part: folder / part / "config.json" for part in counts}
    narrow = {part for part, path in paths.items() if read_config(path, quantised=True).get(KEY)}
    size = PRECISIONS[precision].itemsize
    return {part: count * (1 if part in narrow else size) for part, count in counts.items()}


def parameter_bytes(name: str | Path, precision: str) -> dict[str, int]:
    """Give the bytes that each part of a model takes by its configs, the denoiser first; adapters do not count."""
    folder, _ = located(split_name(name)[0], check)
    check(folder)
    counts = {
        part: sum(each.numel() for each in _outline(folder / part, kind).parameters())
        for part, kind in networks_of(folder).items()
    }
    return bytes_of(folder, counts, precision)


def free_bytes(device: str) -> int:
    """Give the bytes that are free on a device; what another kind of device has is not known, and not limited here."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available if kind == "cpu" else 2**63


def _outline(folder: Path, name: str) -> torch.nn.Module:
    """Make a network as its config describes it, which takes no memory."""
    kind = _class(name)
    try:
        with torch.device("meta"):
            if hasattr(kind, "config_class"):  # of transformers
                return kind(kind.config_class.from_pretrained(folder))
            return kind.from_config(kind.load_config(folder, local_files_only=True))
    except Exception as error:  # whatever the libraries make of any config
        raise _not_loaded(folder.parent, error) from error


def _stem(kind: str) -> str:
    """Give the name that a network's parameters are saved under."""
    return "diffusion_pytorch_model" if hasattr(diffusers, kind) else "model"


def _variant(folder: Path, stem: str) -> str | None:
    """Name the variant, such as fp16, that a network's parameters are saved as; None where there are plain ones.

    Where there are several and none is plain, nobody said which is meant.
    """
    if (folder / f"{stem}.safetensors").is_file() or (folder / f"{stem}.safetensors.index.json").is_file():  # fmt: skip
        return None
    named = re.compile(rf"{stem}\.(\w+)(-\d{{5}}-of-\d{{5}})?\.safetensors")
    found = sorted(
        {m[1] for path in folder.glob("*.safetensors") if (m := named.fullmatch(path.name))}
    )
    if len(found) > 1:
        raise InputError(
            f"{folder} holds the variants {' and '.join(found)}, and it is not said which is meant; keep one of them"
        )
    return found[0] if found else None


def _parameter_files(folder: Path, stem: str) -> list[Path]:
    """Give the safetensors files of one network: one, or those that its index names."""
    variant = _variant(folder, stem)
    dotted = f".{variant}" if variant else ""
    index = folder / f"{stem}.safetensors.index{dotted}.json"
    names = [f"{stem}{dotted}.safetensors"]
    if index.exists():
        named = read_config(index, MOST_TEXT_BYTES).get("weight_map")
        names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
        if not names or any(Path(name).name != name for name in names):
            raise InputError(f"{index} names no files beside it; save the pipeline again")
    paths = [folder / name for name in names]
    for path in paths:
        if path.is_file():
            continue
        if list(folder.glob("*.bin")) or list(folder.glob("*.ckpt")) or list(folder.glob("*.pt")):
            raise InputError(
                f"{folder} holds pickled parameters only, which are not read; save them as safetensors"
            )
        found = ", ".join(sorted(other.name for other in folder.glob("*.safetensors")))
        raise InputError(
            f"{folder} has no {path.name}{f' (but {found})' if found else ''}; save the whole pipeline"
        )
    return paths
