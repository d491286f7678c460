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
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
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
SHARD_NAME = re.compile(r"features-\d{6,}\.safetensors")
KERNEL_NAME = re.compile(r"kernel-\d{6,}\.safetensors")
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
        return number_of(self.name)


def number_of(name: str) -> int:
    """Give the number in a shard's name."""
    return int(name.removeprefix("features-").removesuffix(".safetensors"))


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside and rename it, so that it is never seen half written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        _rename(part, path)
    except OSError as error:
        raise _not_written(part, path, error) from error


def caption_column(folder: str | Path) -> str:
    """Give the column of the metadata that a cache's captions came from."""
    return (read_header(Path(folder)) or {}).get("caption_column", "text")


def read_json(path: Path, advice: str) -> dict:
    """Read a JSON object; `advice` says what to do when it is damaged."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} is damaged; {advice}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged; {advice}")
    return found


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
    exact = features.double()
    norms = exact.norm(dim=-1)
    unit = exact / norms.clamp_min(1e-300)[..., None]
    unit = torch.where(norms[..., None] > 1e-30, unit, 0.0).float().permute(1, 2, 0)
    stored = (unit * STEPS).round().to(torch.int8) if dtype == "int8" else unit.half()
    _save_shard(shard_path(folder, number), {"features": stored, "norms": norms.float().T}, rows)


def _about(path: Path) -> tuple[list[Row], str]:
    """Read a shard's rows and the hash of its tensors."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["about"])
        rows = [Row(file, digest) for file, digest in about["rows"]]
        if not all(isinstance(text, str) for row in rows for text in (row.file, row.digest)):
            raise TypeError("a row's name is no text")
        return rows, about["tensors"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is missing or damaged; run the gradients step again") from error


def rows_of_shard(path: Path) -> list[Row]:
    """Read which images a shard holds."""
    return _about(path)[0]


def describe_shard(path: Path) -> Shard:
    """Measure and hash a shard for the header."""
    return Shard(path.name, len(rows_of_shard(path)), path.stat().st_size, file_hash(path))


def unit_of(stored: Tensor) -> int:
    """Give the stored number that means one."""
    return STEPS if stored.dtype == torch.int8 else 1


def restored(stored: Tensor) -> Tensor:
    """Give what is stored as float32."""
    return stored.float() / unit_of(stored)


def gram_of(
    stored: Tensor,  # [group, dim, row]
) -> Float64[Tensor, "group dim dim"]:
    """Sum f f^T over rows, exactly for what is stored: codes are whole numbers, float16 is widened."""
    wide = restored(stored).double()
    return wide @ wide.mT


@lru_cache(maxsize=64)
def _named(path: Path, checksum: str) -> list[Row]:
    """Remember names by what is in the file, since a file may be replaced."""
    return rows_of_shard(path)


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

    def row(self, place: int) -> Row:
        """Name one row, reading only its shard's names."""
        ends = list(accumulate(shard.rows for shard in self.shards))
        number = bisect_right(ends, place)
        shard = self.shards[number]
        names = _named(self._sound(shard), shard.checksum)
        return names[place - ends[number] + shard.rows]

    def _sound(self, shard: Shard) -> Path:
        """Give a shard's path, its bytes compared once."""
        path = self.folder / shard.name
        if shard.name not in self.checked:
            if not path.is_file() or file_hash(path) != shard.checksum:
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

    def part(self, rank: int, world: int) -> "Cache":
        """Give every `world`-th shard, for a machine that holds only these."""
        return Cache(
            self.folder, self.header, self.shards[rank::world], self.gram, self.kernel, self.checked
        )


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
    for name in ("index.json", "index.faiss"):
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


def hash_of(content: dict | list) -> str:
    """Hash what JSON can hold (XXH3, 16 hex digits)."""
    return xxhash.xxh3_64(json.dumps(content, sort_keys=True).encode()).hexdigest()


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


def is_sound(folder: Path, shard: Shard) -> bool:
    """Tell whether a listed shard is on disk as it was written."""
    path = folder / shard.name
    return (
        path.is_file() and path.stat().st_size == shard.bytes and file_hash(path) == shard.checksum
    )


def whole_rows(path: Path) -> list[Row]:
    """Give the rows of an unlisted shard as a stopped run left it; none if it is not whole."""
    try:
        rows, wanted = _about(path)
        return rows if _hash_of_tensors(load_tensors(path)) == wanted else []
    except InputError:
        return []


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
) -> tuple[Shard | None, Float64[Tensor, "group dim dim"]]:
    """Write a shard anew without some of its rows; give it, or None, and the Gram sum that goes."""
    tensors, rows = load_tensors(folder / shard.name), rows_of_shard(folder / shard.name)
    keep = torch.tensor([row not in gone for row in rows])
    lost = gram_of(tensors["features"][..., ~keep])
    if not keep.any():
        return None, lost
    path = shard_path(folder, number)
    kept = {key: value[..., keep] for key, value in tensors.items()}
    _save_shard(path, kept, [row for row in rows if row not in gone])
    return describe_shard(path), lost


def clean(folder: Path, header: dict) -> None:
    """Delete shards, kernels and half-written files that a header does not list."""
    keep = {header["kernel"][0], *(shard.name for shard in listed_shards(header))}
    ours = ("features-*.safetensors", "kernel-*.safetensors", "*.part")
    for path in [path for pattern in ours for path in folder.glob(pattern)]:
        if path.name not in keep:
            path.unlink()
