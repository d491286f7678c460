"""Keep features on disk: shards that are read by memory map, a kernel, and a header that describes them.

A cache folder holds `features-*.safetensors` (shards.py); `kernel-*.safetensors`, with `gram [group, dim, dim]`,
the sum over all rows, and the `kernel` made from it; and `header.json`: what the cache belongs to, its groups,
and every file's rows, size and checksum. A change of the cache is one rename of the header, and files that no
header names are no part of it. It knows neither model nor method; it compares fingerprints.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from attribution.collection import Row
from attribution.errors import InputError
from attribution.files import file_hash, hash_of, load_tensors, read_json, save_tensors, write_whole
from attribution.shards import Shard, is_sound, names_of_shard, restored, rows_of_shard

VERSION = 2
CHECKED_AT_OPENING = 256 * 2**20  # bytes; of a larger cache each shard is checked when first read
SHARD_NAME = re.compile(r"features-\d{6,}\.safetensors")
KERNEL_NAME = re.compile(r"kernel-\d{6,}\.safetensors")


@dataclass(frozen=True)
class Cache:
    """The training side of every score, opened and checked; features stay on disk."""

    folder: Path
    header: dict
    shards: list[Shard]
    gram: Float64[Tensor, "group dim dim"]
    kernel: Float[Tensor, "group dim dim"]
    checked: set[str] = field(default_factory=set)  # names of shards whose bytes were compared

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def groups(self) -> list[str]:
        """Name the groups, in the order of the features."""
        return self.header["groups"]

    @cached_property
    def rows(self) -> list[Row]:
        """Name every row, in the order of the features."""
        return [row for shard in self.shards for row in rows_of_shard(self._sound(shard))]

    def order_in(self, rows: list[Row]) -> Int[Tensor, "train"]:
        """Give the place of each of the cache's rows among a collection's rows."""
        place = {row: index for index, row in enumerate(rows)}
        return torch.tensor([place[row] for row in self.rows])

    def row(self, place: int) -> Row:
        """Name one row, reading only its shard's names."""
        shard, number = self._find(place)
        return names_of_shard(self._sound(shard), shard.checksum)[number]

    def feature(self, place: int) -> Float[Tensor, "group dim"]:
        """Read one row's features, at norm one."""
        shard, number = self._find(place)
        return restored(self.read(shard)["features"][..., number])

    def _find(self, place: int) -> tuple[Shard, int]:
        """Give a row's shard and its number there."""
        ends = list(accumulate(shard.rows for shard in self.shards))
        number = bisect_right(ends, place)
        return self.shards[number], place - ends[number] + self.shards[number].rows

    def _sound(self, shard: Shard) -> Path:
        """Give a shard's path, its bytes compared once."""
        path = self.folder / shard.name
        if shard.name not in self.checked:
            if not is_sound(self.folder, shard):
                raise InputError(
                    f"{path} is missing or damaged; run the gradients step again, which makes it anew"
                )
            self.checked.add(shard.name)
        return path

    def read(self, shard: Shard) -> dict[str, Tensor]:
        """Map one shard: `features [group, dim, row]` as stored and `norms [group, row]`."""
        path = self._sound(shard)
        tensors = load_tensors(path)
        found = tuple(tensors["features"].shape)
        if found != (*self.kernel.shape[:2], shard.rows):
            raise InputError(f"{path} holds {found} features, not what the header says")
        return tensors

    def stream(self) -> Iterator[tuple[int, Tensor]]:
        """Give every shard's first row and its features `[group, dim, row]` as stored, in order."""
        start = 0
        for shard in self.shards:
            yield start, self.read(shard)["features"]
            start += shard.rows

    def features(self, raw: bool = False) -> Float[Tensor, "train group dim"]:
        """Read all features into memory, at norm one or as they were; for small caches."""
        parts = []
        for shard in self.shards:
            tensors = self.read(shard)
            part = restored(tensors["features"])
            parts.append((part * tensors["norms"][:, None] if raw else part).permute(2, 0, 1))
        return torch.cat(parts)


def read_header(folder: Path) -> dict | None:
    """Read a finished cache's header; None where there is none yet."""
    path, advice = folder / "header.json", "remove it and run the gradients step again"
    if not path.is_file():
        return None
    header = read_json(path, advice)
    version = header.get("version")
    if isinstance(version, int) and version != VERSION:
        what = "update this program" if version > VERSION else "make the cache again"
        raise InputError(f"{folder} has version {version}, this program reads {VERSION}; {what}")
    checksum = header.pop("checksum", None)
    try:
        sound = checksum == hash_of(header) and all(
            SHARD_NAME.fullmatch(shard.name) for shard in listed_shards(header)
        )
        sound = sound and KERNEL_NAME.fullmatch(header["kernel"][0])
        sound = sound and isinstance(header["fingerprints"], dict)
    except (KeyError, TypeError, IndexError):
        sound = False
    if not sound:
        raise InputError(f"{path} is damaged; {advice}")
    return header


def write_header(
    folder: Path, header: dict, shards: list[Shard], gram: Tensor, kernel: Tensor
) -> None:
    """Make these shards the cache: from the header's rename on, they and no others are.

    A shard's number is never used twice, so that who has the cache open is never served other images.
    """
    if not torch.isfinite(gram).all():
        raise InputError(f"the features in {folder} are not finite; check the model")
    shards = sorted(shards, key=lambda shard: shard.number)
    revision = header.get("revision", 0) + 1
    path = folder / f"kernel-{revision:06d}.safetensors"
    save_tensors(path, {"gram": gram, "kernel": kernel})
    listed = [vars(shard) for shard in shards]
    for name in ("index.json", "index.faiss", "latents.json", "latents.safetensors"):
        if header.get("shards") != listed:  # it may hold images that are gone
            (folder / name).unlink(missing_ok=True)
    header = {
        **header,
        "version": VERSION,
        "revision": revision,
        "next_number": max([header.get("next_number", 0), *(s.number + 1 for s in shards)]),
        "images": sum(shard.rows for shard in shards),
        "kernel": [path.name, file_hash(path)],
        "shards": listed,
    }
    header["checksum"] = hash_of(header)
    write_whole(folder / "header.json", json.dumps(header, indent=1) + "\n")
    clean(folder, header)


def listed_shards(header: dict) -> list[Shard]:
    """Give the shards that a header lists."""
    return [Shard(**entry) for entry in header["shards"]]


def caption_column(folder: str | Path) -> str:
    """Give the column of the metadata that a cache's captions came from."""
    return (read_header(Path(folder)) or {}).get("caption_column", "text")


def open_cache(
    folder: str | Path, expected: dict[str, str], part: tuple[int, int] = (0, 1)
) -> Cache:
    """Open a cache, refusing one that is damaged or belongs to another model or collection.

    `expected` maps the name of what is compared ("model", "collection") to its fingerprint. With `part`, a
    rank and the number of ranks, only that rank's shards need be here.
    """
    folder = Path(folder)
    header = read_header(folder)
    if header is None:
        raise InputError(f"{folder} is no finished cache; run python -m precompute gradients")
    for what, fingerprint in expected.items():
        found = header["fingerprints"].get(what)
        if found != fingerprint:
            raise InputError(
                f"the cache {folder} was made for another {what} ({found}, not {fingerprint}); "
                "run python -m precompute gradients for this one"
            )
    gram, kernel = read_kernel(folder, header)
    rank, world = part
    shards = listed_shards(header)[rank::world]
    cache = Cache(folder, header, shards, gram, kernel)
    for shard in shards:
        path = folder / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise InputError(
                f"{path} is missing or damaged; run the gradients step again, which makes it anew"
            )
    if sum(shard.bytes for shard in shards) <= CHECKED_AT_OPENING:
        for shard in shards:
            cache.read(shard)
    return cache


def kernel_is_sound(folder: Path, header: dict) -> bool:
    """Tell whether the kernel's file is as it was written."""
    name, checksum = header["kernel"]
    return (folder / name).is_file() and file_hash(folder / name) == checksum


def read_kernel(folder: Path, header: dict) -> tuple[Tensor, Tensor]:
    """Read the Gram sum and the kernel that a header names."""
    path = folder / header["kernel"][0]
    if not kernel_is_sound(folder, header):
        raise InputError(f"{path} is missing or damaged; run the gradients step again")
    tensors = load_tensors(path)
    return tensors["gram"], tensors["kernel"]


def clean(folder: Path, header: dict) -> None:
    """Delete shards, kernels and half-written files that a header does not list."""
    keep = {header["kernel"][0], *(shard.name for shard in listed_shards(header))}
    ours = ("features-*.safetensors", "kernel-*.safetensors", "*.part")
    for path in [path for pattern in ours for path in folder.glob(pattern)]:
        if path.name not in keep:
            path.unlink()
