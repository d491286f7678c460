"""Keep features on disk: shards of 8-bit codes, a kernel, and a header that says what they belong to.

A cache folder holds `header.json`, `features-*.safetensors` (codes `[row, group, dim]` and their scales
`[row, group]`) and `kernel.safetensors`. Every file is written beside and renamed when whole. It knows
neither model nor method; it compares fingerprints.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from attribution.errors import InputError

VERSION = 1


@dataclass(frozen=True)
class Cache:
    """The training side of every score, opened and checked."""

    folder: Path
    header: dict
    features: Float[Tensor, "train group dim"]
    kernel: Float[Tensor, "group dim dim"]

    @property
    def groups(self) -> list[str]:
        """Name the groups, in the order of the features."""
        return self.header["groups"]


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside and rename it, so that it is never seen half written."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file beside and rename it."""
    part = path.with_name(path.name + ".part")
    save_file({key: value.contiguous() for key, value in tensors.items()}, part)
    part.rename(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or say in one sentence that it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is missing or damaged; remove it and run the step again"
        ) from error


def shard_path(folder: Path, index: int) -> Path:
    """Name a shard."""
    return folder / f"features-{index:05d}.safetensors"


def write_shard(folder: Path, index: int, features: Float[Tensor, "row group dim"]) -> None:
    """Write one shard as 8-bit codes, each group of a row with its own scale (largest value = 127)."""
    if not torch.isfinite(features).all():
        bad = int((~torch.isfinite(features).flatten(1).all(1)).nonzero()[0])
        raise InputError(
            f"row {bad} of shard {index} has NaN or infinite features; check model and image"
        )
    scale = features.abs().amax(-1).clamp_min(1e-30) / 127
    codes = (features / scale[..., None]).round().to(torch.int8)
    save_tensors(shard_path(folder, index), {"codes": codes, "scale": scale.float()})


def file_hash(path: Path) -> str:
    """Hash a file (SHA-256, 16 hex digits)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def finish(folder: Path, header: dict, kernel: Tensor, shards: int) -> None:
    """Write the kernel and, last of all, the header that makes the folder a cache."""
    save_tensors(folder / "kernel.safetensors", {"kernel": kernel})
    names = [shard_path(folder, index).name for index in range(shards)]
    checksums = {name: file_hash(folder / name) for name in [*names, "kernel.safetensors"]}
    write_whole(
        folder / "header.json",
        json.dumps({"version": VERSION, **header, "checksums": checksums}, indent=1) + "\n",
    )


def read_features(folder: Path, names: list[str]) -> Float[Tensor, "train group dim"]:
    """Read shards back to float32."""
    parts = []
    for name in names:
        tensors = load_tensors(folder / name)
        if set(tensors) != {"codes", "scale"} or tensors["codes"].ndim != 3:
            raise InputError(
                f"{folder / name} is no shard of features; remove it and run the step again"
            )
        parts.append(tensors["codes"].float() * tensors["scale"][..., None])
    features = torch.cat(parts)
    if not torch.isfinite(features).all():
        raise InputError(
            f"the features in {folder} hold NaN or infinity; run the gradients step again"
        )
    return features


def open_cache(folder: str | Path, expected: dict[str, str]) -> Cache:
    """Open a cache, refusing one that is damaged or belongs to another model or collection.

    `expected` maps the name of what is compared ("model", "collection") to its fingerprint.
    """
    folder = Path(folder)
    if not (folder / "header.json").is_file():
        raise InputError(f"{folder} is no finished cache; run python -m precompute gradients")
    try:
        header = json.loads((folder / "header.json").read_text())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{folder}/header.json is damaged; run the gradients step again"
        ) from error
    if header.get("version") != VERSION:
        raise InputError(
            f"{folder} has version {header.get('version')}; this program reads {VERSION}"
        )
    for what, fingerprint in expected.items():
        found = header["fingerprints"].get(what)
        if found != fingerprint:
            raise InputError(
                f"the cache {folder} was made for another {what} ({found}, not {fingerprint}); "
                "run python -m precompute gradients for this one"
            )
    for name, checksum in header["checksums"].items():
        if not (folder / name).is_file() or file_hash(folder / name) != checksum:
            raise InputError(f"{folder / name} is missing or damaged; run the gradients step again")
    shards = [name for name in header["checksums"] if name.startswith("features-")]
    features = read_features(folder, shards)
    kernel = load_tensors(folder / "kernel.safetensors")["kernel"]
    if features.shape[:2] != (header["images"], len(header["groups"])):
        raise InputError(
            f"{folder} holds {tuple(features.shape)} features, not what its header says"
        )
    return Cache(folder, header, features, kernel)
