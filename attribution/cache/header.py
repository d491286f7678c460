"""Describe a cache: what it belongs to, its groups, and every file's rows, size and checksum.

In: `header.json` of a cache folder, which anybody may have written. Out: its fields, which are all that they should be
and agree with one another. It opens no other file.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from attribution.cache.shards import DTYPES, Form, Shard
from attribution.errors import InputError
from attribution.files import hash_of, read_json
from attribution.gradients.methods import METHODS, FeatureConfig
from attribution.models.precision import PRECISIONS
from attribution.pictures.collection import MAX_SIDE
from attribution.pictures.layout import Layout
from attribution.pictures.size import Size, sizes_of, written
from attribution.shape import check_shape

VERSION = 2
SHARD_NAME = re.compile(r"features-\d{6,12}\.safetensors", re.ASCII)
ADVICE = "remove it and run the gradients step again"
FEATURES = {
    "objective": str,
    "timesteps": int,
    "ranges": int,
    "proj_dim": int,
    "parameters": str,
    "seed": int,
    "each_timestep?": str,
    "layers?": str,
    "residual?": bool,
}
SHAPE = {
    "method": str,
    "damping": float,  # 0: not chosen yet
    "damping_losses?": {str: float},
    "features": FEATURES,
    "dtype": str,
    "caption_column?": str,
    "layout?": {  # what else was said of how the collection is to be read
        "image_column?": str,
        "artist_column?": str,
        "license_column?": str,
        "source_column?": str,
        "split?": str,
        "dataset_config_name?": str,
        "left_out?": [str],
    },
    "resolution?": int
    | str,  # of the pictures, where it is not the model's own: 512, 768x512, or several
    "precision?": str,  # of the model's parameters, where it is not fp32
    "fingerprints": {"model": str, "collection": str},
    "groups": [str],
    "version": int,
    "revision": int,
    "next_number": int,  # of a shard
    "images": int,
    "kernel": [str],  # its file and checksum
    "shards": [{"name": str, "rows": int, "bytes": int, "checksum": str}],
    "checksum": str,
}


def read_header(folder: Path) -> dict | None:
    """Read a finished cache's header; None where there is none yet."""
    path = folder / "header.json"
    if not path.is_file():
        return None
    header = read_json(path, ADVICE)
    version = header.get("version")
    if type(version) is int and version != VERSION:
        what = "update this program" if version > VERSION else "make the cache again"
        raise InputError(f"{folder} has version {version}, this program reads {VERSION}; {what}")
    try:
        check_shape(header, SHAPE)
        if header.pop("checksum") != hash_of(header):
            raise ValueError("it was changed after it was written")
        _check_content(header)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {ADVICE}") from error
    return header


def _check_content(header: dict) -> None:
    """Refuse fields that contradict one another, or what no cache has."""
    config, method = FeatureConfig(**header["features"]), METHODS.get(header["method"])
    shards, groups = listed_shards(header), header["groups"]
    names = {shard.name for shard in shards}
    sound = {
        "its method": method
        and (method.objective, method.each_timestep, method.residual)
        == (config.objective, config.each_timestep, config.residual),
        "its damping": header["damping"] >= 0,
        "its precision": header.get("precision", "fp32") in PRECISIONS,
        "its resolution": _is_size(header.get("resolution", 1)),
        "its dtype": header["dtype"] in DTYPES,
        "its groups": groups
        and len(set(groups)) == len(groups)
        and not len(groups) % config.ranges,
        "the names of its shards": len(names) == len(shards)
        and all(SHARD_NAME.fullmatch(name) for name in names),
        "the sizes of its shards": all(s.rows > 0 and s.bytes > 0 for s in shards),
        "the number of its images": header["images"] == sum(shard.rows for shard in shards),
        "its kernel": len(header["kernel"]) == 2
        and header["kernel"][0] == kernel_name(header["revision"]),
    }
    wrong = [place for place, fine in sound.items() if not fine]
    if not wrong and any(shard.number >= header["next_number"] for shard in shards):
        wrong = ["its next number"]
    if wrong:
        raise ValueError(f"{wrong[0]} cannot be so")


def _is_size(resolution: int | str) -> bool:
    """Tell whether sizes are such, written as they would be."""
    try:
        sizes = sizes_of(resolution)
    except InputError:
        return False
    return max(map(max, sizes)) <= MAX_SIDE and written(*sizes) == resolution


def kernel_name(revision: int) -> str:
    """Name the kernel's file."""
    return f"kernel-{revision:06d}.safetensors"


def path_of_rows(folder: Path, name: str) -> Path:
    """Name a file that holds something of every image; the store deletes it when one of them goes."""
    return folder / f"rows-{name}.safetensors"


def listed_shards(header: dict) -> list[Shard]:
    """Give the shards that a header lists."""
    return [Shard(**entry) for entry in header["shards"]]


def form_of(header: dict) -> Form:
    """Say what every shard of a cache holds of a row."""
    return Form(len(header["groups"]), FeatureConfig(**header["features"]).dim, header["dtype"])


def layout_of(folder: str | Path, follow_links: bool = False) -> Layout:
    """Say how the collection was read that a cache belongs to.

    Whether links are followed is never a cache's to say: it would open any file to whoever wrote it.
    """
    header = read_header(Path(folder)) or {}
    said = header.get("layout", {}) | {
        "left_out": tuple(header.get("layout", {}).get("left_out", ()))
    }
    column = header.get("caption_column", Layout.caption_column)
    return Layout(caption_column=column, follow_links=follow_links, **said)


def recorded(layout: Layout) -> dict:
    """Give what a header says of a layout."""
    plain = Layout()
    unrecorded = ("caption_column", "follow_links")
    said = {k: v for k, v in asdict(layout).items() if v != getattr(plain, k)}
    rest = {k: list(v) if k == "left_out" else v for k, v in said.items() if k not in unrecorded}
    return {"caption_column": layout.caption_column} | ({"layout": rest} if rest else {})


class Loaded(TypedDict):
    """How a model is loaded, beside its name and device."""

    size: Size | None  # of the pictures; None: the model's own
    more_sizes: tuple[Size, ...]  # at which pictures of other shapes are seen
    precision: str


def loaded_as(folder: str | Path) -> Loaded:
    """Give how a cache's model was loaded; as it is by itself where there is no cache."""
    header = read_header(Path(folder)) or {}
    size, *more = sizes_of(header["resolution"]) if "resolution" in header else (None,)
    precision = header.get("precision", "fp32")
    return {"size": size, "more_sizes": tuple(more), "precision": precision}
