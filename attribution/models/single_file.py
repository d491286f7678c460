"""Load what one safetensors file holds of a pipeline, as checkpoints are shared; the rest comes from a folder beside it.

In: FILE@CONFIG, which names such a model wherever one is named. CONFIG is a folder or a Hub id in diffusers' format: its
configs say what the file's numbers are, and what no file says, such as the noise schedule and whether noise or v is predicted. Out:
networks, each with every parameter. diffusers knows the names that parameters have in files (`from_single_file`); a network that is not
in the file is CONFIG's own. Pickled files are never read.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import transformers
from diffusers.loaders.single_file import load_single_file_sub_model
from diffusers.loaders.single_file_utils import (
    LDM_VAE_KEYS,
    is_clip_model_in_single_file,
    is_t5_in_single_file,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from attribution.errors import InputError
from attribution.models.adapters import LORA, kind_of, tensor_names
from attribution.models.configs import class_of, read_config
from attribution.models.families import FAMILIES
from attribution.models.precision import PRECISIONS
from attribution.pictures.hub import DENOISERS, PATTERNS, fetched, is_hub_id, model_folder
from attribution.quiet import without_bars

KINDS = "safetensors|ckpt|pt|pth|bin"
WITH_CONFIG = re.compile(rf"(.+?\.(?:{KINDS}))@(.+)")
QUANTISED = ("scaled_fp8", "scale_weight", "weight_scale", "absmax", "quant_map")  # ends of names
READ_BY_DIFFUSERS = tuple(  # whose denoiser has `from_single_file`
    name
    for name, family in FAMILIES.items()
    if hasattr(getattr(diffusers, family.classes[family.networks[0]][0]), "from_single_file")
)


def split_config(name: str | Path) -> tuple[str, str | None]:
    """Tell a single file from what names its configs; None where a model is no such file."""
    found = WITH_CONFIG.fullmatch(str(name))
    return (found[1], found[2]) if found else (str(name), None)


def with_config(model: str, config: str) -> str:
    """Name a single file with what names its configs."""
    if not re.fullmatch(rf".+\.({KINDS})", model):
        raise InputError(
            f"--config belongs to a single file (.safetensors), and {model} is none; leave it out"
        )
    return f"{model}@{config}"


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint; its names are known, and its numbers are read when they are asked for."""

    path: Path
    names: frozenset[str]

    @classmethod
    def open(cls, name: str) -> "SingleFile":
        """Refuse what is pickled, quantised or no checkpoint."""
        path = Path(name)
        if path.suffix != ".safetensors":
            raise InputError(f"{name} is pickled, which is never read; save it as .safetensors")
        if not path.is_file():
            raise InputError(f"there is no file {name:.300}; check the path")
        names = tensor_names(path)
        if kind_of(names, set()) == LORA:
            raise InputError(f"{name} is a LoRA; name it by --adapter, and its base as the model")
        if any(each.endswith(QUANTISED) for each in names):
            raise InputError(f"{name} is quantised; take the file in full or half precision")
        return cls(path, frozenset(names))

    def holds(self, part: str, kind: str) -> bool:
        """Tell whether a network is in the file; a denoiser must be."""
        if part in DENOISERS:
            return True
        if part == "vae":
            return any(name.startswith(tuple(LDM_VAE_KEYS)) for name in self.names)
        if kind == "T5EncoderModel":
            return is_t5_in_single_file(self.names)
        return is_clip_model_in_single_file(getattr(transformers, kind), self.names)

    def check(self, folder: Path) -> None:
        """Refuse a config that cannot be this file's."""
        kind = class_of(folder)
        if kind not in READ_BY_DIFFUSERS:
            raise InputError(
                f"{self.path} cannot be read with the configs of a {kind}: single files are read of "
                f"{', '.join(READ_BY_DIFFUSERS)}; save the whole pipeline"
            )
        predicts = read_config(folder / "scheduler/scheduler_config.json").get("prediction_type")
        if "v_pred" in self.names and predicts != "v_prediction":
            raise InputError(
                f"{self.path} predicts v and the scheduler of {folder} says {predicts or 'epsilon'}; name the configs of a "
                "v-prediction model"
            )
        if "edm_mean" in self.names:
            raise InputError(
                f"{self.path} was trained by EDM; only diffusion in discrete timesteps is supported"
            )

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Map the numbers into memory."""
        return load_file(self.path)

    def network(self, part: str, kind: str, folder: Path, precision: str) -> nn.Module:
        """Load one network, every parameter of it, by the names that diffusers knows."""
        lacking = InputError(
            f"{self.path} lacks parameters of the {part} that {folder} describes; name the configs of its own kind of model"
        )
        try:
            with without_bars():
                network: Any = load_single_file_sub_model(
                    "diffusers" if hasattr(diffusers, kind) else "transformers", kind, part,
                    dict(self.tensors),  # of which diffusers takes names away
                    diffusers.pipelines, False, str(folder), local_files_only=True,
                    torch_dtype=PRECISIONS[precision],
                )  # fmt: skip
        except (
            NotImplementedError
        ) as error:  # torch's, where a tensor that no number came for is moved
            raise lacking from error
        if hasattr(network, "tie_weights"):
            network.tie_weights()
        if any(value.is_meta for value in network.parameters()):
            raise lacking
        return network


def located(name: str, check: Callable[[Path], None]) -> tuple[Path, SingleFile | None]:
    """Give the folder that a model's configs are in, fetched where it is a Hub id, and the single file that it is, if it is one.

    Beside a file only those parameters are fetched that it does not hold.
    """
    path, config = split_config(name)
    if config is None:
        return model_folder(name, check), None
    file = SingleFile.open(path)
    if is_hub_id(config):
        folder = fetched(config, "model", PATTERNS["model"])
        check(folder)
        lacking = [
            part for part, kinds in FAMILIES[class_of(folder)].classes.items()
            if not file.holds(part, kinds[0])
        ]  # fmt: skip
        own = [each for each in PATTERNS["parameters"] if each.split("/")[0] in lacking]
        folder = fetched(config, "model", PATTERNS["model"] + own)
    else:
        folder = model_folder(config, check)
        check(folder)
    file.check(folder)
    return folder, file
