"""Check a model folder in diffusers' format, then load its parts.

In: a folder that anybody may have made. Out: a `StableDiffusionPipeline`, or one sentence that says what stands in
the way. Classes are named here, never taken from the folder; only JSON, a tokenizer's text and safetensors are read;
and what a config asks for is counted before a byte is allocated for it. It knows no pictures and no prompts.
"""

import os
from pathlib import Path

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    ModelMixin,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from attribution.errors import InputError
from attribution.files import read_json

SUPPORTED = (
    "only a StableDiffusionPipeline of UNet2DConditionModel, AutoencoderKL and CLIPTextModel "
    "(Stable Diffusion 1 and 2) is supported"
)
# Samplers whose config names the noise schedule of training (Ho et al., arXiv 2006.11239) and nothing beside it.
SAMPLERS = (
    "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler", "LMSDiscreteScheduler",
    "PNDMScheduler", "SASolverScheduler", "TCDScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
CLASSES = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": ("diffusers", SAMPLERS),
}
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}  # of the files that hold parameters
NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
ADDED = {
    "pytorch_lora_weights": "a LoRA", "adapter_model": "a LoRA", "adapter_config": "a LoRA",
    "learned_embeds": "a textual inversion",
}  # fmt: skip
FUSE = "save the pipeline with it fused in (load_lora_weights, fuse_lora, save_pretrained)"
EXTEND = "save the pipeline with it loaded (load_textual_inversion, save_pretrained)"
OWN_CODE = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code")
ATTENTION = (None, "eager", "sdpa")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")  # that DDPM knows
LAYER_COUNTS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers",
                "reverse_transformer_layers_per_block")  # fmt: skip
MOST_LAYERS, MOST_BLOCKS = 100, 12
LARGEST = 1_000_000  # number in a network's config
MOST_BYTES = 2**20  # of a config
MOST_TEXT_BYTES = 2**25  # of a tokenizer's file
FEWEST_TIMESTEPS, MOST_TIMESTEPS = 25, 100_000  # a drawing takes 25 of them
MOST_PIXELS = 4096  # of a picture's side


def check(folder: Path) -> None:
    """Refuse a folder whose configs describe anything that is not supported; read no parameters."""
    _check_additions(folder)
    if not (folder / "model_index.json").exists():
        raise InputError(
            f"the model folder {folder} has no model_index.json; save the whole pipeline"
        )
    _check_files(folder)
    index = _config(folder / "model_index.json")
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise InputError(f"{folder} holds a {index.get('_class_name')!s:.60}; {SUPPORTED}")
    for part, (library, classes) in CLASSES.items():
        if not (folder / part).is_dir():
            raise InputError(f"the model folder {folder} has no {part}; save the whole pipeline")
        if index.get(part) not in [[library, name] for name in classes]:
            allowed = (
                f"{SUPPORTED}, with {' or '.join(classes)}" if part != "scheduler" else _drawn()
            )
            raise InputError(f"the {part} of {folder} is {index.get(part)!s:.80}; {allowed}")
    _check_schedule(folder / "scheduler/scheduler_config.json")
    _check_networks(folder)
    for path in (folder / "tokenizer").glob("*.json"):
        _config(path, MOST_TEXT_BYTES)


def load(folder: Path) -> StableDiffusionPipeline:
    """Load a folder's parts by the classes that are supported; every parameter must be there."""
    check(folder)
    _check_parameters(folder)
    found = {part: _network(folder / part, part) for part in STEMS}
    try:
        sampler = getattr(diffusers, _config(folder / "model_index.json")["scheduler"][1])
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        scheduler = sampler.from_pretrained(folder / "scheduler", local_files_only=True)
        _try(scheduler)
    except Exception as error:  # whatever the libraries make of a folder that anybody may have made
        raise _not_loaded(folder, error) from error
    encoder = found["text_encoder"].config
    if max(tokenizer.get_vocab().values()) >= encoder.vocab_size:
        raise InputError(
            f"the tokenizer of {folder} knows more words than its text encoder, {encoder.vocab_size}; "
            "save both of one pipeline"
        )
    longest = encoder.max_position_embeddings
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return StableDiffusionPipeline(
        **found, tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def _network(folder: Path, part: str) -> ModelMixin | CLIPTextModel:
    """Load a network's parameters, every one of them."""
    options = {"use_safetensors": True, "local_files_only": True, "torch_dtype": torch.float32}
    try:
        network, about = NETWORKS[part].from_pretrained(folder, output_loading_info=True, **options)
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


def _drawn() -> str:
    names = ", ".join(name.removesuffix("Scheduler") for name in SAMPLERS)
    return f"save the pipeline with one of {names}"


def _not_loaded(folder: Path, error: Exception) -> InputError:
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
                f"{path} is {kind} beside the model, which would not count; "
                f"{FUSE if kind == 'a LoRA' else EXTEND}, or remove the file"
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


def _check_files(folder: Path) -> None:
    """Refuse links that lead outside and what is no regular file, such as a pipe, which would never end."""
    inside = [os.path.realpath(folder)]
    if folder.resolve().parent.name == "snapshots":  # the Hub's cache links to files beside it
        inside.append(os.path.realpath(folder.resolve().parents[1] / "blobs"))
    paths = [path for part in CLASSES for path in (folder / part, *(folder / part).glob("*"))]
    for path in [folder / "model_index.json", *paths]:
        real = os.path.realpath(path)
        if not any(real.startswith(place + os.sep) for place in inside):
            raise InputError(f"{path} is a link that leads outside {folder}; copy the file there")
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is no regular file; save the pipeline again")


def _config(path: Path, most: int = MOST_BYTES) -> dict:
    """Read a config; refuse one that is huge or asks for code or loaders of its own."""
    if not path.is_file():
        raise InputError(f"the model has no {path}; save the whole pipeline")
    if path.stat().st_size > most:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {most} are read")
    found = read_json(path, "save the pipeline again")
    if asked := [key for key in OWN_CODE if found.get(key)]:
        raise InputError(
            f"{path} asks for code of its own ({asked[0]}), which is never run; {SUPPORTED}"
        )
    if found.get("quantization_config"):
        raise InputError(f"{path} is of a quantised network; save the pipeline in full precision")
    return found


def _check_schedule(path: Path) -> None:
    """Refuse a noise schedule that is not one of diffusion in discrete timesteps."""
    config = _config(path)
    _check_numbers(path, {key: value for key, value in config.items() if isinstance(value, int)})
    name, kind = config.get("_class_name"), config.get("prediction_type", "epsilon")
    if name is not None and name not in SAMPLERS:
        raise InputError(f"{path} is of {name!s:.60}; {_drawn()}")
    if config.get("use_flow_sigmas") or kind == "flow_prediction":
        raise InputError(f"{path} is of a flow-matching model; only diffusion models are supported")
    if kind not in PREDICTIONS:
        raise InputError(f"{path} predicts {kind!s:.60}; {', '.join(PREDICTIONS)} are known")
    if (betas := config.get("beta_schedule", "linear")) not in BETAS:
        raise InputError(
            f"{path} has the beta_schedule {betas!s:.60}; {', '.join(BETAS)} are known"
        )
    steps = config.get("num_train_timesteps", 1000)
    if not _whole(steps, FEWEST_TIMESTEPS, MOST_TIMESTEPS):
        raise InputError(
            f"{path} has num_train_timesteps {steps!s:.60}; {FEWEST_TIMESTEPS} to {MOST_TIMESTEPS} are supported"
        )
    trained = config.get("trained_betas")
    if trained is not None and not (isinstance(trained, list) and len(trained) == steps):
        raise InputError(f"{path} has trained_betas that are no list of {steps} numbers")
    given = {"beta_start": config.get("beta_start", 0.0), "beta_end": config.get("beta_end", 0.0)}
    for key, value in [*given.items(), *(("trained_betas", beta) for beta in trained or [])]:
        if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value < 1:
            raise InputError(f"{path} has {key} {value!s:.60}; it must be at least 0 and below 1")


def _check_networks(folder: Path) -> None:
    """Refuse networks of other classes, that want other inputs, or that do not fit together."""
    paths = {part: folder / part / "config.json" for part in STEMS}
    configs = {part: _config(path) for part, path in paths.items()}
    for part, config in configs.items():
        _check_numbers(paths[part], config)
        names = config.get("_class_name"), *(config.get("architectures") or [])
        if other := [name for name in names if name not in (None, CLASSES[part][1][0])]:
            raise InputError(f"{paths[part]} is of {other[0]!s:.60}; {SUPPORTED}")
    unet, vae, text = (configs[part] for part in STEMS)
    if text.get("model_type", "clip_text_model") != "clip_text_model":
        raise InputError(f"{paths['text_encoder']} is of {text['model_type']!s:.60}; {SUPPORTED}")
    for key in (
        "class_embed_type",
        "num_class_embeds",
        "addition_embed_type",
        "time_cond_proj_dim",
    ):
        if unet.get(key) is not None:
            raise InputError(f"{paths['unet']} wants more than a prompt ({key}); {SUPPORTED}")
    if unet.get("encoder_hid_dim_type") not in (None, "text_proj"):
        raise InputError(
            f"{paths['unet']} wants more than a prompt (encoder_hid_dim_type); {SUPPORTED}"
        )
    _check_channels(paths, unet, vae)
    for key in ("latents_mean", "latents_std"):
        if vae.get(key) is not None:
            raise InputError(
                f"{paths['vae']} has {key}, which a StableDiffusionPipeline ignores; {SUPPORTED}"
            )
    for key, value in (("scaling_factor", vae.get("scaling_factor", 0.18215)),
                       ("shift_factor", vae.get("shift_factor") or 0.0)):  # fmt: skip
        if (
            isinstance(value, bool)
            or not isinstance(value, float | int)
            or (key == "scaling_factor" and value <= 0)
        ):
            raise InputError(f"{paths['vae']} has {key} {value!s:.60}; a number was expected")
    width = text.get("hidden_size", 512)
    if unet.get("encoder_hid_dim") is None and unet.get("cross_attention_dim", 1280) != width:
        raise InputError(
            f"the unet of {folder} reads prompts {unet.get('cross_attention_dim', 1280)!s:.60} wide and its "
            f"text_encoder writes {width!s:.60}; save both of one pipeline"
        )


def _check_channels(paths: dict[str, Path], unet: dict, vae: dict) -> None:
    """Refuse denoisers of anything but a square picture's latents."""
    latent = vae.get("latent_channels", 4)
    read, wrote = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if (read, wrote) != (latent, latent):
        raise InputError(
            f"{paths['unet']} reads {read!s:.60} and writes {wrote!s:.60} channels where the autoencoder has "
            f"{latent!s:.60}, as models for inpainting or depth do; {SUPPORTED}"
        )
    if (vae.get("in_channels", 3), vae.get("out_channels", 3)) != (3, 3):
        raise InputError(f"{paths['vae']} is not of pictures in red, green and blue; {SUPPORTED}")
    size, blocks = unet.get("sample_size"), vae.get("block_out_channels", [64])
    if not isinstance(blocks, list) or not blocks:
        raise InputError(
            f"{paths['vae']} has block_out_channels {blocks!s:.60}; a list was expected"
        )
    most = MOST_PIXELS // 2 ** (len(blocks) - 1)
    if not _whole(size, 1, most):
        raise InputError(
            f"{paths['unet']} has sample_size {size!s:.60}; only square pictures, given as one whole number "
            f"up to {most}, are supported"
        )


def _check_numbers(path: Path, config: dict) -> None:
    """Refuse numbers and lists that no network has, before one is described by them."""
    for key, value in config.items():
        most = MOST_LAYERS if key in LAYER_COUNTS else LARGEST
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, list) and len(item) > MOST_BLOCKS:
                raise InputError(
                    f"{path} has {len(item)} entries in {key}; at most {MOST_BLOCKS} are supported"
                )
            if isinstance(item, list | dict):
                waiting += item.values() if isinstance(item, dict) else item
            elif isinstance(item, int | float) and not abs(item) <= most:  # NaN is refused, too
                raise InputError(f"{path} has {key} {item!s:.60}; at most {most} is supported")


def _check_parameters(folder: Path) -> None:
    """Refuse parameters that are pickled, elsewhere or fewer than the config describes, which is counted first."""
    for part, stem in STEMS.items():
        held = sum(path.stat().st_size for path in _parameter_files(folder / part, stem))
        try:
            with torch.device("meta"):  # no memory
                network = _described(folder / part, part)
        except Exception as error:  # whatever the libraries make of any config
            raise _not_loaded(folder, error) from error
        wanted = sum(parameter.numel() for parameter in network.parameters())
        if wanted > held:  # a parameter takes a byte or more
            raise InputError(
                f"the config of {part} in {folder} describes {wanted} parameters and its files hold {held} bytes; "
                "save the pipeline again"
            )


def _described(folder: Path, part: str) -> torch.nn.Module:
    if part == "text_encoder":
        return CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
    return NETWORKS[part].from_config(NETWORKS[part].load_config(folder, local_files_only=True))


def _parameter_files(folder: Path, stem: str) -> list[Path]:
    """Give the safetensors files of one network: one, or those that its index names."""
    index = folder / f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    if index.exists():
        named = _config(index, MOST_TEXT_BYTES).get("weight_map")
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
            f"{folder} has no {path.name}{f' (but {found})' if found else ''}; save the whole pipeline, "
            "without a variant"
        )
    return paths


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
