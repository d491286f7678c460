"""Keep the features of some hundred or thousand images in one file, a shard.

A shard holds `features [group, dim, row]`, each row of a group at norm one, as float16 or as 8-bit codes (127
= 1); `norms [group, row]`, what the norms were; and the rows' names. Rows are innermost, so that a query meets
consecutive memory. It knows nothing of the other shards; what it belongs to says the header that lists it.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from attribution.described import hash_of_tensors, metadata_of
from attribution.errors import InputError
from attribution.files import MOST_JSON, Wanted, file_hash, load_tensors, save_tensors
from attribution.pictures.collection import Row
from attribution.shape import check_shape

STEPS = 127  # of an 8-bit code
DTYPES = {"float16": torch.float16, "int8": torch.int8}
ADVICE = "run the gradients step again, which makes it anew"


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


@dataclass(frozen=True)
class Form:
    """What every shard of a cache holds of a row."""

    groups: int
    dim: int
    dtype: str  # a name in DTYPES

    def wanted(self, rows: int | None) -> dict[str, Wanted]:
        """Say what a shard's tensors should be; a value beyond one cannot be of a row at norm one."""
        return {
            "features": Wanted(DTYPES[self.dtype], (self.groups, self.dim, rows), -1.01, 1.01),
            "norms": Wanted(torch.float32, (self.groups, rows), 0.0),
        }


def number_of(name: str) -> int:
    """Give the number in a shard's name."""
    return int(name.removeprefix("features-").removesuffix(".safetensors"))


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


def _save_shard(path: Path, tensors: dict[str, Tensor], rows: list[Row]) -> None:
    about = {
        "rows": [[row.file, row.digest] for row in rows],
        "tensors": hash_of_tensors(tensors),
    }
    text = json.dumps(about)
    if 2 * len(text) > MOST_JSON:  # quotes are written twice
        raise InputError(f"{len(rows)} images are too many for one shard; lower shard_size")
    save_tensors(path, tensors, {"about": text})  # one key: safetensors keeps no order


def _about(path: Path) -> tuple[list[Row], str]:
    """Read a shard's rows and the hash of its tensors."""
    try:
        about = metadata_of(path, ADVICE)
        rows = [Row(file, digest) for file, digest in about["rows"]]
        check_shape(about["tensors"], str)
        if not all(type(text) is str for row in rows for text in (row.file, row.digest)):
            raise ValueError("a row's name is no text")
        return rows, about["tensors"]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged; {ADVICE}") from error


def rows_of_shard(path: Path) -> list[Row]:
    """Read which images a shard holds."""
    return _about(path)[0]


@lru_cache(maxsize=64)
def names_of_shard(path: Path, checksum: str) -> list[Row]:
    """Remember names by what is in the file, since a file may be replaced."""
    return rows_of_shard(path)


def describe_shard(path: Path) -> Shard:
    """Measure and hash a shard for the header."""
    return Shard(path.name, len(rows_of_shard(path)), path.stat().st_size, file_hash(path))


def check_shard(folder: Path, shard: Shard, form: Form) -> dict[str, Tensor]:
    """Map a listed shard, refusing one that is not as it was written, or not what its cache says."""
    path = folder / shard.name
    whole = path.is_symlink() or (  # which is refused below
        path.is_file() and path.stat().st_size == shard.bytes and file_hash(path) == shard.checksum
    )
    if not whole:
        raise InputError(f"{path} is missing or damaged; {ADVICE}")
    tensors = load_tensors(path, form.wanted(shard.rows), ADVICE)
    rows = names_of_shard(path, shard.checksum)
    if not len({row.file for row in rows}) == len(rows) == shard.rows:
        raise InputError(f"{path} does not name {shard.rows} images once each; {ADVICE}")
    return tensors


def is_sound(folder: Path, shard: Shard, form: Form) -> bool:
    """Tell whether a listed shard is on disk as it was written."""
    try:
        check_shard(folder, shard, form)
    except InputError:
        return False
    return True


def whole_rows(path: Path, form: Form) -> list[Row]:
    """Give the rows of an unlisted shard as a stopped run left it; none if it is not whole."""
    try:
        rows, wanted = _about(path)
        whole = hash_of_tensors(load_tensors(path, form.wanted(len(rows)))) == wanted
        return rows if whole and len(set(rows)) == len(rows) else []
    except InputError:
        return []


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
