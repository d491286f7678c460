"""Find out how a collection is kept, and read it: every kind of source gives the same `Source`.

In: a folder. In this order: a table beside pictures (metadata.py), archives (archives.py), tables that hold pictures
(embedded.py), or pictures alone, with captions in `name.txt` beside them or classes in folders. A folder with nothing
but `train/`, `test/` and the like, or shards so named, holds splits, of which one is read. Out: a `Source`.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from attribution.errors import InputError
from attribution.files import read_bytes
from attribution.pictures.archives import MOST_TEXT, caption_text, read_archives
from attribution.pictures.layout import LOG, NONE, OTHERS, SUFFIXES, Layout, Raw, Source, entries_of
from attribution.pictures.listing import Listing, list_folder
from attribution.pictures.metadata import TABLES, read_metadata

MOST_PICTURE = 2**28  # bytes
BESIDE = (".txt", ".caption")  # captions in files of their own
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip


def _read_tables(folder: Path, names: list[str], layout: Layout) -> Source:
    from attribution.pictures.embedded import read_embedded  # datasets takes seconds

    return read_embedded(folder, names, layout)


SHARDS = {".tar": read_archives, ".arrow": _read_tables, ".parquet": _read_tables}


def find_source(folder: Path, layout: Layout) -> Source:
    """Read a collection, however it is kept."""
    listing = list_folder(folder, layout.follow_links)
    base = _base(listing, layout)
    for table in TABLES:
        name = f"{base}/{table}" if base else table
        if name in listing.files:
            return _described(folder, listing, name, base, layout)
    files = listing.below(base)
    for suffix, reader in SHARDS.items():
        shards = [name for name in files if name.endswith(suffix)]
        if shards:
            return reader(listing.root, _part(shards, base, folder, layout), layout)
    if layout.split and not base:
        raise InputError(f"{folder} has no splits; leave out --split {layout.split[:80]}")
    deeper = [name for name in files if PurePosixPath(name).name in TABLES]
    if deeper:
        raise InputError(
            f"{folder} has its table in {deeper[0][:200]}; give that folder, or move the table to the top"
        )
    return _alone(folder, listing, base, layout)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _base(listing: Listing, layout: Layout) -> str:
    """Choose among folders that are splits; "" where the folder itself holds the pictures."""
    if any(table in listing.files for table in TABLES):
        return ""
    kinds = (*SUFFIXES, *TABLES, *SHARDS)
    counted = [name for name in listing.files if name.lower().endswith(kinds)]
    tops = sorted({name.partition("/")[0] for name in counted if "/" in name})
    whole = "dataset_dict.json" in listing.files  # which save_to_disk writes
    splits = whole or all(top.lower() in SPLITS for top in tops)
    if not splits or not tops or not all("/" in name for name in counted):
        return ""
    return _chosen(tops, "split", layout.split, listing.root)


def _part(shards: list[str], base: str, folder: Path, layout: Layout) -> list[str]:
    """Choose the shards of one part and one split, by the words in their names."""
    parts: dict[str, dict[str, list[str]]] = {}
    for name in shards:
        *folders, last = PurePosixPath(name).relative_to(base).parts
        words = [*re.split(r"[^a-z]+", last.lower()), *(each.lower() for each in folders)]
        split = next((SPLITS[word] for word in words if word in SPLITS), "")
        part = "/".join(f for f in folders if f.lower() not in {*SPLITS, "data"})
        parts.setdefault(part, {}).setdefault(split, []).append(name)
    part = _chosen(sorted(parts), "dataset_config_name", layout.dataset_config_name, folder)
    wanted = "" if base else layout.split  # the base is one already
    return parts[part][_chosen(sorted(parts[part]), "split", wanted, folder)]


def _chosen(names: list[str], option: str, wanted: str, folder: Path) -> str:
    """Give the name that is wanted, or the only one."""
    same = [n for n in names if wanted and wanted in (n, SPLITS.get(n.lower()))]
    if len(same) == 1 or (not wanted and len(names) == 1):
        return (same or names)[0]
    shown = ", ".join(name or "(no name)" for name in names)[:200]
    if wanted:
        raise InputError(f"{folder} has no {wanted[:80]!r} for --{option}, but {shown}")
    raise InputError(f"{folder} holds {shown}; choose one with --{option}")


def _described(folder: Path, listing: Listing, name: str, base: str, layout: Layout) -> Source:
    """Read pictures that a table names."""
    entries = entries_of(read_metadata(listing, name), layout, f"{folder}/{name}")
    named = {entry.file for entry in entries}
    others = [*listing.below(base), *(link for link in listing.links if link.startswith(base))]
    unnamed = sum(_is_picture(each) and each not in named for each in others)
    if unnamed:
        LOG.warning("%d pictures in %s are not named in its %s and are left out", unnamed, folder, name)  # fmt: skip
    return Source(entries, partial(_read, listing.root), listing.stamp)


def _alone(folder: Path, listing: Listing, base: str, layout: Layout) -> Source:
    """Read pictures without a table: captions from files beside them, classes from their folders."""
    pictures = [name for name in listing.below(base) if _is_picture(name)]
    links = sum(map(_is_picture, listing.links))
    if links:
        LOG.warning("%d pictures in %s are links to files elsewhere and are left out; --follow_links reads them", links, folder)  # fmt: skip
    others = [name for name in listing.below(base) if name.lower().endswith(OTHERS)]
    if others:
        ends = ", ".join(sorted({PurePosixPath(name).suffix.lower() for name in others}))
        LOG.warning("%d pictures in %s are neither PNG, JPEG nor WebP (%s) and are left out; save them as PNG", len(others), folder, ends)  # fmt: skip
    if not pictures:
        raise InputError(
            f"{folder} holds no {', no '.join(TABLES)}, no shards and no PNG, JPEG or WebP pictures; check the path"
        )
    inner = [PurePosixPath(name).relative_to(base).parts[:-1] for name in pictures]
    classes = all(inner) and len({parts[0] for parts in inner}) > 1
    beside = {name: _beside(listing, name) for name in pictures}

    def rows() -> Iterator[Raw]:
        for name, parts in zip(pictures, inner, strict=True):
            caption = _caption(listing, beside[name]) if beside[name] else ""
            label = {"label": parts[0]} if classes else {}
            yield Raw(name, {layout.caption_column: caption} | label, name)

    columns = [Layout.caption_column, NONE, *["label"] * classes]
    if layout.caption_column not in columns:
        raise InputError(
            f"{folder} holds pictures without a table, and so no column {layout.caption_column[:80]!r} for captions; "
            f"--caption_column may be {', '.join(columns)}"
        )
    entries = entries_of(rows(), layout, str(folder))
    return Source(entries, partial(_read, listing.root), listing.stamp)


def _beside(listing: Listing, picture: str) -> str:
    """Name the file beside a picture that holds its caption, if there is one."""
    stem = picture.rpartition(".")[0]
    return next((stem + end for end in BESIDE if stem + end in listing.files), "")


def _caption(listing: Listing, name: str) -> str:
    try:
        return caption_text(read_bytes(listing.root / name, MOST_TEXT))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the caption {listing.root / name} cannot be read: {error}") from error


def _read(root: Path, file: str) -> bytes:
    return read_bytes(root / file, MOST_PICTURE)
