"""Check the configs of a model folder in diffusers' format, before anything is described or allocated by them.

In: JSON that anybody may have written. Out: nothing, or one sentence that says what is not supported. It loads nothing.
"""

from pathlib import Path

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
NETWORKS = ("unet", "vae", "text_encoder")
CLASSES = {
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "tokenizer": ("transformers", ("CLIPTokenizer", "CLIPTokenizerFast")),
    "scheduler": ("diffusers", SAMPLERS),
}
OWN_CODE = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code")
ATTENTION = (None, True, False, "eager", "sdpa")  # true: chosen by transformers
MORE_INPUTS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "time_cond_proj_dim")
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


def check_configs(folder: Path) -> None:
    """Refuse a folder whose configs describe anything that is not supported."""
    index = read_config(folder / "model_index.json")
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
        read_config(path, MOST_TEXT_BYTES)


def read_config(path: Path, most: int = MOST_BYTES) -> dict:
    """Read a config; refuse one that is huge or asks for code or loaders of its own."""
    if not path.is_file():
        raise InputError(f"the model has no {path}; save the whole pipeline")
    if path.stat().st_size > most:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {most} are read")
    found = read_json(path, "save the pipeline again", finite=False)
    if asked := [key for key in OWN_CODE if found.get(key)]:
        raise InputError(
            f"{path} asks for code of its own ({asked[0]}), which is never run; {SUPPORTED}"
        )
    if found.get("quantization_config"):
        raise InputError(f"{path} is of a quantised network; save the pipeline in full precision")
    return found


def _check_schedule(path: Path) -> None:
    """Refuse a noise schedule that is not one of diffusion in discrete timesteps."""
    config = read_config(path)
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
    paths = {part: folder / part / "config.json" for part in NETWORKS}
    configs = {part: read_config(path) for part, path in paths.items()}
    for part, config in configs.items():
        _check_numbers(paths[part], config)
        listed = config.get("architectures")
        names = [config.get("_class_name"), *(listed if isinstance(listed, list) else [listed])]
        if other := [name for name in names if name not in (None, CLASSES[part][1][0])]:
            raise InputError(f"{paths[part]} is of {other[0]!s:.60}; {SUPPORTED}")
    unet, vae, text = (configs[part] for part in NETWORKS)
    _check_inputs(paths, unet, text)
    _check_channels(paths, unet, vae)
    _check_scale(paths["vae"], vae)
    width = text.get("hidden_size", 512)
    if unet.get("encoder_hid_dim") is None and unet.get("cross_attention_dim", 1280) != width:
        raise InputError(
            f"the unet of {folder} reads prompts {unet.get('cross_attention_dim', 1280)!s:.60} wide and its "
            f"text_encoder writes {width!s:.60}; save both of one pipeline"
        )


def _check_inputs(paths: dict[str, Path], unet: dict, text: dict) -> None:
    """Refuse networks that want more than a prompt, or code of their own."""
    if text.get("model_type", "clip_text_model") != "clip_text_model":
        raise InputError(f"{paths['text_encoder']} is of {text['model_type']!s:.60}; {SUPPORTED}")
    for key, value in text.items():  # transformers fetches code for a name that it does not know
        if "attn_implementation" in key and value not in ATTENTION:
            raise InputError(
                f"{paths['text_encoder']} asks for code of its own ({key}), which is never run; {SUPPORTED}"
            )
    for key in MORE_INPUTS:
        if unet.get(key) is not None:
            raise InputError(f"{paths['unet']} wants more than a prompt ({key}); {SUPPORTED}")
    if unet.get("encoder_hid_dim_type") not in (None, "text_proj"):
        raise InputError(
            f"{paths['unet']} wants more than a prompt (encoder_hid_dim_type); {SUPPORTED}"
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


def _check_scale(path: Path, vae: dict) -> None:
    """Refuse latents that are scaled in other ways than z = (mean - shift) scale."""
    for key in ("latents_mean", "latents_std"):
        if vae.get(key) is not None:
            raise InputError(
                f"{path} has {key}, which a StableDiffusionPipeline ignores; {SUPPORTED}"
            )
    for key, value in (("scaling_factor", vae.get("scaling_factor", 0.18215)),
                       ("shift_factor", vae.get("shift_factor") or 0.0)):  # fmt: skip
        if (
            isinstance(value, bool)
            or not isinstance(value, float | int)
            or (key == "scaling_factor" and value <= 0)
        ):
            raise InputError(f"{path} has {key} {value!s:.60}; a number was expected")


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


def _drawn() -> str:
    names = ", ".join(name.removesuffix("Scheduler") for name in SAMPLERS)
    return f"save the pipeline with one of {names}"


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
