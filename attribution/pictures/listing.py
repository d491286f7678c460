"""List the files of a folder once, and find in that list what a table names.

In: a folder, which may be hostile: nothing outside it is listed unless links are to be followed. Out: the regular
files below it by their names, with size and time of change, and the links that were not followed. What programs hide, names
that begin with a dot, is left out. It opens no file.
"""

import logging
import os
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from attribution.errors import InputError
from attribution.shape import is_text

LOG = logging.getLogger(__name__)

Stamp = tuple[int, int]  # bytes, nanoseconds of the last change


@dataclass
class Listing:
    """What lies in a folder."""

    root: Path  # without links
    follow_links: bool
    files: dict[str, Stamp] = field(default_factory=dict)  # relative, with slashes
    links: list[str] = field(default_factory=list)  # that lead out and were not followed
    unnamed: list[str] = field(default_factory=list)  # whose names are not UTF-8

    @cached_property
    def composed(self) -> dict[str, str]:
        """Give the names by their composed form (NFC): tables and disks spell accents in two ways."""
        return {unicodedata.normalize("NFC", name): name for name in self.files}

    def find(self, name: str, where: str, base: str = "") -> str:
        """Give the listed file that a table in the folder `base` names, or say that it is elsewhere or not there."""
        if (plain := f"{base}/{name}" if base else name) in self.files:
            return plain
        for each in (name, name.replace("\\", "/")) if "\0" not in name else ():
            plain = os.path.normpath(PurePosixPath(base, each)) if each else ""
            plain = plain.replace(os.sep, "/")
            if plain in self.files:
                return plain
            if (found := self.composed.get(unicodedata.normalize("NFC", plain))) is not None:
                return found
        shown = repr(name if len(name) <= 80 else name[:80] + "…")
        try:
            path = (self.root / base / name).resolve()
            there = path.is_file()
        except (OSError, ValueError, RuntimeError):  # overlong, with a NUL, or links in a circle
            path, there = self.root, False
        if self.root not in path.parents and path != self.root:
            linked = os.path.normpath(PurePosixPath(base, name)) in self.links
            advice = "copy the picture into it" + (" or give --follow_links" if linked else "")
            raise InputError(f"{where} names {shown}, which lies outside its folder; {advice}")
        if not there:
            raise InputError(
                f"{where} names {shown}, which is not there; restore it or remove the line"
            )
        return path.relative_to(self.root).as_posix()  # a link within, or another case of letters

    def stamp(self, name: str) -> Stamp:
        """Give a file's size and time of change, as they were when it was listed."""
        return self.files.get(name) or stamp_of(self.root / name)

    def below(self, base: str) -> list[str]:
        """Give the files below a folder of the folder."""
        start = f"{base}/" if base else ""
        return [name for name in self.files if name.startswith(start)]


def stamp_of(path: Path) -> Stamp:
    """Give a file's size and time of change."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def list_folder(folder: Path, follow_links: bool) -> Listing:
    """Walk a folder once."""
    try:
        root = folder.resolve(strict=True)
        if not root.is_dir():
            raise NotADirectoryError(20, "it is a file")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"there is no folder {str(folder)[:300]} of pictures; check the path"
        ) from error
    found = Listing(root, follow_links)
    waiting, seen = [(root, "")], set()
    while waiting:
        place, start = waiting.pop()
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            raise InputError(
                f"{place} cannot be read ({error.strerror}); check its permissions"
            ) from error
        for entry in entries:
            _add(found, entry, start + entry.name, waiting, seen)
    found.files = dict(sorted(found.files.items()))
    if found.unnamed:
        LOG.warning(
            "%d files in %s have names that are not UTF-8 and are not read, such as %r; rename them",
            len(found.unnamed), folder, found.unnamed[0].encode(errors="surrogateescape"),
        )  # fmt: skip
    return found


def _add(
    found: Listing,
    entry: os.DirEntry,
    name: str,
    waiting: list[tuple[Path, str]],
    seen: set[tuple[int, int]],
) -> None:
    """Add one entry of a folder: a file, a folder to walk, or a link."""
    if entry.name.startswith("."):
        return  # such as ._a.png, which macOS writes beside a.png, and .ipynb_checkpoints
    try:
        if entry.is_symlink():
            target = Path(entry.path).resolve()
            if found.root in target.parents or target == found.root:
                return  # what it leads to is listed by its own name
            if not found.follow_links:
                found.links.append(name)
                return
        stat = entry.stat()
        if entry.is_dir():
            if (key := (stat.st_dev, stat.st_ino)) not in seen:  # else links lead in a circle
                seen.add(key)
                waiting.append((Path(entry.path), f"{name}/"))
        elif entry.is_file() and is_text(name):
            found.files[name] = (stat.st_size, stat.st_mtime_ns)
        elif entry.is_file():
            found.unnamed.append(name)
    except (OSError, RuntimeError):
        return  # gone meanwhile, or a link to nowhere
