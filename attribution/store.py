"""Keep features on disk: shards that are read by memory map, a kernel, and a header that describes them.

A cache folder holds

  features-*.safetensors  `features [group, dim, row]`, each row of a group at norm one, as float16 or as 8-bit
                          codes (127 = 1); `norms [group, row]`, what the norms were; the rows' ids
  kernel-*.safetensors    `gram [group, dim, dim]`, the sum over all rows, from which the `kernel` is made
  header.json             what the cache belongs to, its groups, and every file's rows, size and checksum

Rows are innermost, so that a query meets consecutive memory. Every file is written beside and renamed; a
change of the cache is one rename of the header, and files that no header names are no part of it. It knows
neither model nor method; it compares fingerprints.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
import xxhash
from filelock import FileLock, Timeout
from jaxtyping import Float, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attribution.collection import Row
from attribution.errors import InputError

VERSION = 2
STEPS = 127  # of an 8-bit code
CHECKED_AT_OPENING = 256 * 2**20  # bytes; of a larger cache each shard is checked when first read
DTYPES = {"float16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class Shard:
    """One file of features, as the header lists it."""

    name: str
    rows: int
    bytes: int
    checksum: str

    @property
    def number(self) -> int:
        """Give the number in the file's name."""
        return int(self.name.removeprefix("features-").removesuffix(".safetensors"))


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside and rename it, so that it is never seen half written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        _rename(part, path)
    except OSError as error:
        raise _not_written(part, path, error) from error


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file beside and rename it; what cannot be written leaves nothing behind."""
    part = path.with_name(path.name + ".part")
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, part, metadata)
        _rename(part, path)
    except (OSError, SafetensorError) as error:
        raise _not_written(part, path, error) from error


def _rename(part: Path, path: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
    part.chmod(0o644)
    part.rename(path)


def _not_written(part: Path, path: Path, error: Exception) -> InputError:
    part.unlink(missing_ok=True)
    return InputError(
        f"{path} could not be written ({error}); free some space and run the same command again"
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Map a safetensors file, or say in one sentence that it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is missing or damaged; run the step that makes it again"
        ) from error


def file_hash(path: Path) -> str:
    """Hash a file (XXH3, 16 hex digits: it finds accidents at the speed of memory, not forgers)."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep every other process from writing this cache; the lock goes with the process."""
    lock = FileLock(folder / "writing.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another process is writing {folder}; wait until it is done") from error
    try:
        yield
    finally:
        lock.release()


def shard_path(folder: Path, number: int) -> Path:
    """Name a shard."""
    return folder / f"features-{number:06d}.safetensors"


def bytes_of_row(groups: int, dim: int, dtype: str) -> int:
    """Give what a row takes on disk, without its id."""
    return groups * (dim * DTYPES[dtype].itemsize + 4)


def write_shard(
    folder: Path,
    number: int,
    rows: list[Row],
    features: Float[Tensor, "row group dim"],
    dtype: str = "float16",
) -> None:
    """Write one shard: rows at norm one, and their norms."""
    if not torch.isfinite(features).all():
        bad = int((~torch.isfinite(features).flatten(1).all(1)).nonzero()[0])
        raise InputError(
            f"the features of {rows[bad].file} hold NaN or infinity; check the model and this image"
        )
    norms = features.norm(dim=-1)
    unit = (features / norms.clamp_min(1e-30)[..., None]).permute(1, 2, 0)
    stored = (unit * STEPS).round().to(torch.int8) if dtype == "int8" else unit.half()
    _save_shard(shard_path(folder, number), {"features": stored, "norms": norms.T}, rows)


def _about(path: Path) -> dict:
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["about"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged; run the gradients step again") from error


def rows_of_shard(path: Path) -> list[Row]:
    """Read which images a shard holds."""
    return [Row(*row) for row in _about(path)["rows"]]


def describe_shard(path: Path) -> Shard:
    """Measure and hash a shard for the header."""
    return Shard(path.name, len(rows_of_shard(path)), path.stat().st_size, file_hash(path))


def restored(stored: Tensor) -> Tensor:
    """Give what is stored as float32."""
    return stored.float() / STEPS if stored.dtype == torch.int8 else stored.float()


def gram_of(
    stored: Tensor,  # [group, dim, row]
) -> Float64[Tensor, "group dim dim"]:
    """Sum f f^T over rows, exactly for what is stored: codes are whole numbers, float16 is widened."""
    wide = restored(stored).double()
    return wide @ wide.mT


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
        return [row for shard in self.shards for row in rows_of_shard(self.folder / shard.name)]

    def read(self, shard: Shard) -> dict[str, Tensor]:
        """Map one shard: `features [group, dim, row]` as stored and `norms [group, row]`."""
        path = self.folder / shard.name
        if shard.name not in self.checked:
            if not path.is_file() or file_hash(path) != shard.checksum:
                raise InputError(
                    f"{path} is missing or damaged; run the gradients step again, which makes it anew"
                )
            self.checked.add(shard.name)
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

    def part(self, rank: int, world: int) -> "Cache":
        """Give every `world`-th shard, for a machine that holds only these."""
        return Cache(
            self.folder, self.header, self.shards[rank::world], self.gram, self.kernel, self.checked
        )


def read_header(folder: Path) -> dict | None:
    """Read a finished cache's header; None where there is none yet."""
    path = folder / "header.json"
    if not path.is_file():
        return None
    try:
        header = json.loads(path.read_text())
        version = header["version"]
        checksum = header.pop("checksum", None)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged; remove it and run the gradients step again"
        ) from error
    if version != VERSION:
        advice = "update this program" if version > VERSION else "make the cache again"
        raise InputError(f"{folder} has version {version}, this program reads {VERSION}; {advice}")
    if checksum != _hash_of(header):
        raise InputError(f"{path} is damaged; remove it and run the gradients step again")
    return header


def write_header(
    folder: Path, header: dict, shards: list[Shard], gram: Tensor, kernel: Tensor
) -> None:
    """Make these shards the cache: from the header's rename on, they and no others are."""
    revision = header.get("revision", 0) + 1
    path = folder / f"kernel-{revision:06d}.safetensors"
    save_tensors(path, {"gram": gram, "kernel": kernel})
    header = {
        **header,
        "version": VERSION,
        "revision": revision,
        "images": sum(shard.rows for shard in shards),
        "kernel": [path.name, file_hash(path)],
        "shards": [vars(shard) for shard in shards],
    }
    header["checksum"] = _hash_of(header)
    write_whole(folder / "header.json", json.dumps(header, indent=1) + "\n")
    clean(folder, {path.name, *(shard.name for shard in shards)})


def _hash_of(header: dict) -> str:
    return xxhash.xxh3_64(json.dumps(header, sort_keys=True).encode()).hexdigest()


def listed_shards(header: dict) -> list[Shard]:
    """Give the shards that a header lists."""
    return [Shard(**entry) for entry in header["shards"]]


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


def read_kernel(folder: Path, header: dict) -> tuple[Tensor, Tensor]:
    """Read the Gram sum and the kernel that a header names."""
    name, checksum = header["kernel"]
    if not (folder / name).is_file() or file_hash(folder / name) != checksum:
        raise InputError(f"{folder / name} is missing or damaged; run the gradients step again")
    tensors = load_tensors(folder / name)
    return tensors["gram"], tensors["kernel"]


def is_sound(folder: Path, shard: Shard) -> bool:
    """Tell whether a listed shard is on disk as it was written."""
    path = folder / shard.name
    return (
        path.is_file() and path.stat().st_size == shard.bytes and file_hash(path) == shard.checksum
    )


def holds(path: Path, rows: list[Row]) -> bool:
    """Tell whether an unlisted shard is whole and holds just these rows, as a stopped run left it."""
    if not path.is_file():
        return False
    try:
        wanted = _about(path)["tensors"]
        return rows_of_shard(path) == rows and _hash_of_tensors(load_tensors(path)) == wanted
    except InputError:
        return False


def _hash_of_tensors(tensors: dict[str, Tensor]) -> str:
    digest = xxhash.xxh3_64()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save_shard(path: Path, tensors: dict[str, Tensor], rows: list[Row]) -> None:
    about = {
        "rows": [[row.file, row.digest] for row in rows],
        "tensors": _hash_of_tensors(tensors),
    }
    save_tensors(path, tensors, {"about": json.dumps(about)})  # one key: safetensors keeps no order


def without(
    folder: Path, shard: Shard, gone: set[Row], number: int
) -> tuple[Shard | None, Float64[Tensor, "group dim dim"], Float64[Tensor, "group dim dim"]]:
    """Write a shard anew without some of its rows; give it, or None, and the Gram sums lost and kept."""
    tensors, rows = load_tensors(folder / shard.name), rows_of_shard(folder / shard.name)
    keep = torch.tensor([row not in gone for row in rows])
    lost = gram_of(tensors["features"][..., ~keep])
    rest = gram_of(tensors["features"][..., keep])
    if not keep.any():
        return None, lost, rest
    path = shard_path(folder, number)
    kept = {key: value[..., keep] for key, value in tensors.items()}
    _save_shard(path, kept, [row for row in rows if row not in gone])
    return describe_shard(path), lost, rest


def clean(folder: Path, keep: set[str]) -> None:
    """Delete shards and half-written files that are neither listed nor wanted."""
    ours = ("features-*.safetensors", "kernel-*.safetensors", "*.part")
    for path in [path for pattern in ours for path in folder.glob(pattern)]:
        if path.name not in keep:
            path.unlink()
