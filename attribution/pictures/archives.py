"""Read pictures in WebDataset's archives: tar files in which the files of one picture share a name.

In: uncompressed tar files, which may be hostile. Out: a `Source` that reads one picture at a time from its place in the
archive; nothing is unpacked. `name.png` is described by `name.txt` (a caption), `name.json` (columns) and `name.cls`.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from attribution.errors import InputError
from attribution.files import parse_json
from attribution.pictures.layout import SUFFIXES, Layout, Raw, Source, entries_of
from attribution.pictures.listing import stamp_of
from attribution.shape import is_text

MOST_TEXT = 2**20  # bytes of what is said of one picture
TEXTS = (".txt", ".caption", ".json", ".cls")


@dataclass
class Sample:
    """One picture's place in an archive, and what lies beside it."""

    file: str = ""
    place: tuple[Path, int, int] | None = None  # archive, first byte, bytes
    texts: dict[str, bytes] = field(default_factory=dict)


def read_archives(folder: Path, names: list[str], layout: Layout) -> Source:
    """List the pictures of some archives."""
    places: dict[str, tuple[Path, int, int]] = {}

    def rows() -> Iterator[Raw]:
        for name in names:
            for key, sample in _samples(folder / name).items():
                where = f"{key} in {folder / name}"
                if sample.place is None:
                    continue
                # Archives may use the same names; a picture's own begins with its archive's.
                file = f"{PurePosixPath(name).with_suffix('')}/{sample.file}"
                places[file] = sample.place
                yield Raw(file, _columns(sample, layout, where), where)

    stamps = {folder / name: stamp_of(folder / name) for name in names}
    entries = entries_of(rows(), layout, str(folder))

    def read(file: str) -> bytes:
        path, start, size = places[file]
        with path.open("rb") as archive:
            archive.seek(start)
            return archive.read(size)

    return Source(entries, read, lambda file: stamps[places[file][0]])


def _samples(path: Path) -> dict[str, Sample]:
    """Walk an archive once; what shares a name up to its first dot is one sample."""
    found: dict[str, Sample] = {}
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive, path.open("rb") as file:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isreg() or member.issparse():
                    continue  # folders, links and devices
                if (
                    name.is_absolute()
                    or ".." in name.parts
                    or member.offset_data + member.size > size
                ):
                    raise InputError(
                        f"{path} holds {member.name[:80]!r}, which no sound archive does"
                    )
                if not is_text(member.name):
                    raise InputError(
                        f"{path} holds {member.name[:80]!r}, a name that is not UTF-8; rename it"
                    )
                suffix = name.suffix.lower()
                key = str(name.parent / name.name.split(".")[0])
                sample = found.setdefault(key, Sample())
                if suffix in SUFFIXES:
                    if sample.place:
                        raise InputError(f"{path} holds two pictures named {key[:80]!r}; keep one")
                    sample.file, sample.place = str(name), (path, member.offset_data, member.size)
                elif suffix in TEXTS:
                    if member.size > MOST_TEXT:
                        raise InputError(
                            f"{member.name[:80]!r} in {path} is too long for a caption"
                        )
                    file.seek(member.offset_data)
                    sample.texts[suffix] = file.read(member.size)
    except InputError:
        raise
    except Exception as error:  # a forged header makes tarfile raise anything
        raise InputError(
            f"{path} is no sound, uncompressed tar file ({str(error)[:80]}); make it again"
        ) from error
    return found


def _columns(sample: Sample, layout: Layout, where: str) -> dict[str, Any]:
    """Put together what the files beside a picture say."""
    found: dict[str, Any] = {}
    try:
        if ".json" in sample.texts:
            found = parse_json(sample.texts[".json"])
            if not isinstance(found, dict):
                raise ValueError("it holds no columns")
            # Downloaders write down hashes, sizes and structures of their own.
            found = {k: v for k, v in found.items() if not isinstance(v, dict)}
        if ".cls" in sample.texts:
            found["label"] = caption_text(sample.texts[".cls"])
        for suffix in (".caption", ".txt"):
            if suffix in sample.texts and layout.caption_column not in found:
                found[layout.caption_column] = caption_text(sample.texts[suffix])
    except ValueError as error:
        raise InputError(f"what is said of {where} cannot be read: {error}") from error
    return found


def caption_text(data: bytes) -> str:
    """Read the first line of a caption's file, as kohya's scripts do."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8; save it as UTF-8") from error
    return text.split("\n")[0].strip()
