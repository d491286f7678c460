"""Keep tensors in one file that says what they belong to.

A safetensors file whose metadata holds `about`, JSON with `belongs_to`, the fingerprints and settings that the tensors
depend on; what else their writer tells; and a `checksum` of all of this and of the tensors. In: tensors and what is told
of them. Out: the same, refused where they belong elsewhere. It does not know what they mean.
"""

import json
from pathlib import Path
from typing import Any

import xxhash
from torch import Tensor

from attribution.errors import BelongsElsewhere, InputError
from attribution.files import Wanted, hash_of, load_tensors, opened, parse_json, save_tensors
from attribution.shape import check_shape


def write_described(
    path: Path, tensors: dict[str, Tensor], belongs_to: dict[str, Any], **told: Any
) -> None:
    """Write tensors with what they belong to and what else is told of them."""
    about = {"belongs_to": belongs_to, **told}
    text = json.dumps(about | {"checksum": _checksum(about, tensors)})
    save_tensors(path, tensors, {"about": text})  # one key: safetensors keeps no order


def read_about(path: Path, belongs_to: dict[str, Any], told: dict[str, Any], advice: str) -> dict:
    """Read what a file tells of its tensors (`told`: its shape, shape.py), refusing one that belongs elsewhere.

    Only what `belongs_to` names is compared. The checksum is for `read_described`.
    """
    shape = {"belongs_to": {str: object}, "checksum": str, **told}
    about = metadata_of(path, advice)
    try:
        check_shape(about, shape)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {advice}") from error
    found = about["belongs_to"]
    different = ", ".join(key for key in belongs_to if found.get(key) != belongs_to[key])
    if different:
        raise BelongsElsewhere(f"{path} belongs to something else (another {different}); {advice}")
    return about


def read_described(
    path: Path, about: dict, wanted: dict[str, Wanted], advice: str
) -> dict[str, Tensor]:
    """Map the tensors of a file that is as it was written and holds what is wanted."""
    tensors = load_tensors(path, wanted, advice)
    told = {key: value for key, value in about.items() if key != "checksum"}
    if about["checksum"] != _checksum(told, tensors):
        raise InputError(f"{path} is missing or damaged; {advice}")
    return tensors


def metadata_of(path: Path, advice: str) -> Any:
    """Read the JSON that stands in a safetensors file's metadata, whatever it holds."""
    with opened(path, advice) as file:
        return parse_json((file.metadata() or {}).get("about", ""))


def _checksum(about: dict, tensors: dict[str, Tensor]) -> str:
    return hash_of(about | {"tensors": hash_of_tensors(tensors)})


def hash_of_tensors(tensors: dict[str, Tensor]) -> str:
    """Hash the tensors' bytes, in the order of their names (XXH3, 16 hex digits)."""
    digest = xxhash.xxh3_64()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()
