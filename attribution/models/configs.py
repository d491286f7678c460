"""Check the configs of a model folder in diffusers' format, before anything is described or allocated by them.

In: JSON that anybody may have written. Out: nothing, or one sentence that says what is not supported. It loads nothing.
"""

from pathlib import Path

from attribution.errors import InputError
from attribution.files import read_json
from attribution.models.families import FAMILIES, FORMER, Family
from attribution.models.quantised import KEY, check_quantised

SUPPORTED = (
    "a StableDiffusionPipeline of UNet2DConditionModel, AutoencoderKL and CLIPTextModel "
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
KINDS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
NETWORKS = tuple(KINDS)  # of Stable Diffusion
STABLE_DIFFUSION = "StableDiffusionPipeline"
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
FLOWING = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")  # with use_flow_sigmas
LIBRARIES = ("diffusers", "transformers")
UNASKED = ("safety_checker", "feature_extractor", "image_encoder")  # parts that no feature needs
OWN_CODE = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code")
ATTENTION = (None, True, False, "eager", "sdpa")  # true: chosen by transformers
MORE_INPUTS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "time_cond_proj_dim")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")  # that DDPM knows
LAYER_COUNTS = ("layers_per_block", "transformer_layers_per_block", "num_hidden_layers",
                "reverse_transformer_layers_per_block", "num_layers", "num_single_layers", "n_layers",
                "num_refiner_layers", "n_refiner_layers", "num_decoder_layers", "depth")  # fmt: skip
MOST_LAYERS, MOST_BLOCKS = 100, 12
MOST_ENTRIES = 64  # of a list in a config of another family
LARGEST = 1_000_000  # number in a network's config
LARGEST_ELSEWHERE = 10**10  # such as a base of rotary embeddings
MOST_BYTES = 2**20  # of a config
MOST_TEXT_BYTES = 2**25  # of a tokenizer's file
FEWEST_TIMESTEPS, MOST_TIMESTEPS = 25, 100_000  # a drawing takes 25 of them
MOST_PIXELS = 4096  # of a picture's side


def class_of(folder: Path) -> str:
    """Name the class of a folder's pipeline, as it is called now."""
    name = str(read_config(folder / "model_index.json").get("_class_name"))
    return FORMER.get(name, name)


def check_configs(folder: Path, family: Family | None) -> None:
    """Refuse a folder whose configs describe anything that is not supported; None stands for no known class."""
    index = read_config(folder / "model_index.json")
    kind = FORMER.get(str(index.get("_class_name")), index.get("_class_name"))
    if family is None:
        raise InputError(f"{folder} holds a {kind!s:.60}; {_known()}")
    stable = kind == STABLE_DIFFUSION
    wanted = family.classes | {"scheduler": FLOWS + FLOWING if family.flow else SAMPLERS}
    _check_parts(folder, index, kind, wanted)
    for part, classes in wanted.items():
        if part in family.optional and index.get(part) in (None, [None, None]):
            continue
        if not (folder / part).is_dir():
            raise InputError(f"the model folder {folder} has no {part}; save the whole pipeline")
        if index.get(part) not in [[library, name] for library in LIBRARIES for name in classes]:
            known = f"{SUPPORTED}, with" if stable else f"a {kind} is supported with"
            allowed = f"{known} {' or '.join(classes)}"
            allowed = allowed if part != "scheduler" else _drawn(classes)
            raise InputError(f"the {part} of {folder} is {index.get(part)!s:.80}; {allowed}")
    _check_schedule(folder / "scheduler/scheduler_config.json", family.flow)
    if stable:
        _check_networks(folder)
    else:
        _check_family(folder, index, kind, family)
    for part in family.classes:
        if part.startswith("tokenizer"):
            for path in (folder / part).glob("*.json"):
                read_config(path, MOST_TEXT_BYTES)


def _check_parts(folder: Path, index: dict, kind: str, wanted: dict[str, tuple]) -> None:
    """Refuse parts that nobody would ask."""
    for part, value in index.items():
        if isinstance(value, list) and value != [None, None] and part not in (*wanted, *UNASKED):
            raise InputError(f"{folder} has a part {part!s:.60}, which a {kind} does not know")


def _check_family(folder: Path, index: dict, kind: str, family: Family) -> None:
    """Refuse networks of another pipeline, or that want other inputs than the family gives."""
    configs = {}
    for part in family.networks:
        if part in family.optional and index.get(part) in (None, [None, None]):
            continue
        path, classes = folder / part / "config.json", family.classes[part]
        config = configs[part] = read_config(path, quantised=part == family.networks[0])
        _check_numbers(path, config, LARGEST_ELSEWHERE, MOST_ENTRIES)
        _check_attention(path, config)
        listed = config.get("architectures")
        names = [config.get("_class_name"), *(listed if isinstance(listed, list) else [listed])]
        if other := [name for name in names if name not in (None, *classes)]:
            raise InputError(f"{path} is of {other[0]!s:.60}; a {kind} has {' or '.join(classes)}")
    denoiser = family.networks[0]
    path, vae = folder / denoiser / "config.json", configs.get("vae", {"latent_channels": 3})
    if denoiser == "unet":
        for key in MORE_INPUTS:
            text_time = key == "addition_embed_type" and family.reads == "prompt"
            if configs[denoiser].get(key) not in ((None, "text_time") if text_time else (None,)):
                raise InputError(f"{path} wants more than a {kind} gives ({key})")
    latent = vae.get("latent_channels", vae.get("z_dim"))
    read = configs[denoiser].get("in_channels")
    if latent is not None and read is not None and read != latent * family.patch**2:
        raise InputError(
            f"{path} reads {read!s:.60} channels where a picture has {latent * family.patch**2}, as models for "
            f"inpainting or control do; of {kind} only those that read a noisy picture alone are supported"
        )


def read_config(path: Path, most: int = MOST_BYTES, quantised: bool = False) -> dict:
    """Read a config; refuse one that is huge or asks for code or loaders of its own, which a denoiser's `quantised` may."""
    if not path.is_file():
        raise InputError(f"the model has no {path}; save the whole pipeline")
    if path.stat().st_size > most:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {most} are read")
    found = read_json(path, "save the pipeline again", finite=False)
    if asked := [key for key in OWN_CODE if found.get(key)]:
        raise InputError(
            f"{path} asks for code of its own ({asked[0]}), which is never run; {SUPPORTED}"
        )
    if found.get(KEY) and quantised:
        check_quantised(path, found)
    elif found.get(KEY):
        raise InputError(f"{path} is of a quantised network; save the pipeline in full precision")
    return found


def _check_schedule(path: Path, flow: bool) -> None:
    """Refuse a noise schedule that is not one of diffusion in discrete timesteps, or of flow matching."""
    config = read_config(path)
    if flow:
        _check_flow(path, config)
        return
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


def _check_flow(path: Path, config: dict) -> None:
    """Refuse a schedule that is not one of flow matching."""
    name, steps = config.get("_class_name"), config.get("num_train_timesteps", 1000)
    if name not in (None, *FLOWS) and not config.get("use_flow_sigmas"):
        raise InputError(f"{path} is of {name!s:.60}, no sampler of flow matching; {_drawn(FLOWS)}")
    if not _whole(steps, FEWEST_TIMESTEPS, MOST_TIMESTEPS):
        raise InputError(
            f"{path} has num_train_timesteps {steps!s:.60}; {FEWEST_TIMESTEPS} to {MOST_TIMESTEPS} are supported"
        )
    for key in ("shift", "flow_shift"):
        value = config.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, float | int) or not 0 < value < 1000:
            raise InputError(f"{path} has {key} {value!s:.60}; a number above 0 was expected")
    _check_numbers(path, {key: value for key, value in config.items() if isinstance(value, int)})


def _check_attention(path: Path, config: dict) -> None:
    """Refuse an attention that transformers would fetch code for, as it does for a name that it does not know."""
    for key, value in config.items():
        if "attn_implementation" in key and value not in ATTENTION:
            raise InputError(f"{path} asks for code of its own ({key}), which is never run")


def _check_networks(folder: Path) -> None:
    """Refuse networks of other classes, that want other inputs, or that do not fit together."""
    paths = {part: folder / part / "config.json" for part in NETWORKS}
    configs = {part: read_config(path, quantised=part == "unet") for part, path in paths.items()}
    for part, config in configs.items():
        _check_numbers(paths[part], config)
        listed = config.get("architectures")
        names = [config.get("_class_name"), *(listed if isinstance(listed, list) else [listed])]
        if other := [name for name in names if name not in (None, KINDS[part])]:
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
    _check_attention(paths["text_encoder"], text)
    for key in MORE_INPUTS:
        if unet.get(key) is not None:
            raise InputError(f"{paths['unet']} wants more than a prompt ({key}); {SUPPORTED}")
    if unet.get("encoder_hid_dim_type") not in (None, "text_proj"):
        raise InputError(
            f"{paths['unet']} wants more than a prompt (encoder_hid_dim_type); {SUPPORTED}"
        )


def _check_channels(paths: dict[str, Path], unet: dict, vae: dict) -> None:
    """Refuse denoisers of anything but a picture's latents."""
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
    sides = size if isinstance(size, list) and len(size) == 2 else [size]  # height, width
    if not all(_whole(side, 1, most) for side in sides):
        raise InputError(
            f"{paths['unet']} has sample_size {size!s:.60}; one or two whole numbers up to {most} are supported"
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


def _check_numbers(
    path: Path, config: dict, largest: int = LARGEST, entries: int = MOST_BLOCKS
) -> None:
    """Refuse numbers and lists that no network has, before one is described by them."""
    for key, value in config.items():
        most = MOST_LAYERS if key in LAYER_COUNTS else largest
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, list) and len(item) > entries:
                raise InputError(
                    f"{path} has {len(item)} entries in {key}; at most {entries} are supported"
                )
            if isinstance(item, list | dict):
                waiting += item.values() if isinstance(item, dict) else item
            elif isinstance(item, int | float) and not abs(item) <= most:  # NaN is refused, too
                raise InputError(f"{path} has {key} {item!s:.60}; at most {most} is supported")


def _known() -> str:
    """Say which pipelines are supported; Stable Diffusion's parts are told with it."""
    others = ", ".join(name for name in FAMILIES if name != STABLE_DIFFUSION)
    return f"{SUPPORTED}, and {others}"


def _drawn(samplers: tuple[str, ...] = SAMPLERS) -> str:
    names = ", ".join(name.removesuffix("Scheduler") for name in samplers)
    return f"save the pipeline with one of {names}"


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
