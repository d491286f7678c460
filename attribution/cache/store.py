"""Keep features on disk: shards that are read by memory map, a kernel, and a header that describes them.

A cache folder holds `features-*.safetensors` (shards.py); `kernel-*.safetensors`, with `gram [group, dim, dim]`,
the sum over all rows, and the `kernel` made from it; and `header.json` (header.py), which lists them. A change of the cache is one rename of the header, and files that no
header names are no part of it. It knows neither model nor method; it compares fingerprints.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from attribution.cache.header import (
    VERSION,
    form_of,
    kernel_name,
    layout_of,
    listed_shards,
    loaded_as,
    read_header,
)
from attribution.cache.shards import ADVICE, DTYPES, Shard, check_shard, names_of_shard, restored
from attribution.errors import InputError
from attribution.files import (
    Wanted,
    file_hash,
    hash_of,
    read_tensors,
    save_tensors,
    write_whole,
)
from attribution.pictures.collection import Row, fingerprint_of

__all__ = [
    "Cache",
    "layout_of",
    "listed_shards",
    "loaded_as",
    "open_cache",
    "read_header",
    "write_header",
]
CHECKED_AT_OPENING = 256 * 2**20  # bytes; of a larger cache each shard is checked when first read


@dataclass(frozen=True)
class Cache:
    """The training side of every score, opened and checked; features stay on disk.

    A shard's map is kept, so that who has the cache open goes on when another process removes rows from it.
    """

    folder: Path
    header: dict
    shards: list[Shard]
    gram: Float64[Tensor, "group dim dim"]
    kernel: Float[Tensor, "group dim dim"]
    maps: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # of shards that were checked

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def groups(self) -> list[str]:
        """Name the groups, in the order of the features."""
        return self.header["groups"]

    @cached_property
    def rows(self) -> list[Row]:
        """Name every row, in the order of the features."""
        rows: list[Row] = []
        seen: set[str] = set()
        for shard in self.shards:
            self.read(shard)
            path = self.folder / shard.name
            some = names_of_shard(path, shard.checksum)
            if not seen.isdisjoint(row.file for row in some):
                raise InputError(f"{path} holds images that another shard holds; {ADVICE}")
            rows += some
            seen.update(row.file for row in some)
        whole = len(rows) == self.header["images"]  # not a part of the shards
        if whole and fingerprint_of(rows) != self.header["fingerprints"]["collection"]:
            raise InputError(
                f"{self.folder}/header.json is of other images than its shards hold; {ADVICE}"
            )
        return rows

    def order_in(self, rows: list[Row]) -> Int[Tensor, "train"]:
        """Give the place of each of the cache's rows among a collection's rows."""
        place = {row: index for index, row in enumerate(rows)}
        if place.keys() != set(self.rows):
            raise InputError(
                f"the cache {self.folder} was made for another collection; "
                "run python -m precompute gradients for this one"
            )
        return torch.tensor([place[row] for row in self.rows])

    def feature(self, place: int) -> Float[Tensor, "group dim"]:
        """Read one row's features, at norm one."""
        shard, number = self._find(place)
        return restored(self.read(shard)["features"][..., number])

    def features_at(self, places: list[int]) -> Float[Tensor, "place group dim"]:
        """Read some rows' features, at norm one, opening each shard once."""
        return restored(self.stored_at(torch.tensor(places))).permute(2, 0, 1)

    def stored_at(self, places: Int[Tensor, "place"]) -> Tensor:  # [group, dim, place]
        """Read some rows as they are stored, opening each shard once."""
        ends = torch.tensor([shard.rows for shard in self.shards]).cumsum(0)
        owners, dtype = torch.bucketize(places, ends, right=True), DTYPES[self.header["dtype"]]
        found = torch.empty(*self.kernel.shape[:2], len(places), dtype=dtype)
        for number in owners.unique().tolist():
            here, shard = (owners == number).nonzero()[:, 0], self.shards[number]
            inside = places[here] - (ends[number] - shard.rows)
            found[..., here] = self.read(shard)["features"][..., inside]
        return found

    def _find(self, place: int) -> tuple[Shard, int]:
        """Give a row's shard and its number there."""
        ends = list(accumulate(shard.rows for shard in self.shards))
        number = bisect_right(ends, place)
        return self.shards[number], place - ends[number] + self.shards[number].rows

    def read(self, shard: Shard) -> dict[str, Tensor]:
        """Map one shard: `features [group, dim, row]` as stored and `norms [group, row]`; it is checked when first read."""
        if shard.name not in self.maps:
            self.maps[shard.name] = check_shard(self.folder, shard, form_of(self.header))
        return self.maps[shard.name]

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
    path = folder / kernel_name(revision)
    save_tensors(path, {"gram": gram, "kernel": kernel})
    listed = [vars(shard) for shard in shards]
    if header.get("shards") != listed:
        for beside in folder.glob("rows-*"):  # it may hold images that are gone
            beside.unlink()
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
            raise InputError(f"{path} is missing or damaged; {ADVICE}")
    if sum(shard.bytes for shard in shards) <= CHECKED_AT_OPENING:
        _ = cache.rows  # reads all
    return cache


def kernel_is_sound(folder: Path, header: dict) -> bool:
    """Tell whether the kernel's file is as it was written."""
    try:
        read_kernel(folder, header)
    except InputError:
        return False
    return True


def read_kernel(folder: Path, header: dict) -> tuple[Tensor, Tensor]:
    """Read the Gram sum and the kernel that a header names."""
    (name, checksum), form = header["kernel"], form_of(header)
    shape = (form.groups, form.dim, form.dim)
    wanted = {"gram": Wanted(torch.float64, shape), "kernel": Wanted(torch.float32, shape)}
    tensors = read_tensors(folder / name, checksum, wanted, ADVICE)
    return tensors["gram"], tensors["kernel"]


def clean(folder: Path, header: dict) -> None:
    """Delete shards, kernels and half-written files that a header does not list."""
    keep = {header["kernel"][0], *(shard.name for shard in listed_shards(header))}
    ours = ("features-*.safetensors", "kernel-*.safetensors", "*.part")
    for path in [path for pattern in ours for path in folder.glob(pattern)]:
        if path.name not in keep:
            path.unlink()
