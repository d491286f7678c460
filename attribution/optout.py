"""Honour requests to be left out: which training images must not be shown.

In: `opt_out.json`, {"files": [...], "artists": [...]}, beside the collection's metadata or elsewhere. Out: a mask of
the collection's images. The file may change at any time, belongs to no cache and needs none made again; what
it hides is still in the model. It knows no score.
"""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from attribution.collection import Collection
from attribution.errors import InputError
from attribution.files import read_json

FILE = "opt_out.json"
WITHHELD = "withheld on request"  # stands for the artists of hidden images
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OptOut:
    """Files and artists that asked to be left out."""

    files: frozenset[str] = frozenset()
    artists: frozenset[str] = frozenset()

    def hidden(self, collection: Collection) -> Bool[Tensor, "train"]:
        """Tell which images are hidden."""
        artists = [labels.get("artist", "") for labels in collection.labels]
        pairs = zip(collection.files, artists, strict=True)
        return torch.tensor([f in self.files or plain(a) in self.artists for f, a in pairs])

    def unmatched(self, collection: Collection) -> list[str]:
        """Give what matches no image: a request that is mistyped hides nothing."""
        artists = {plain(labels.get("artist", "")) for labels in collection.labels}
        return sorted((self.files - set(collection.files)) | (self.artists - artists))


def plain(name: str) -> str:
    """Write a name so that case and spaces do not keep a request from being honoured."""
    return " ".join(name.casefold().split())


def read_opt_out(path: Path) -> OptOut:
    """Read requests, refusing what cannot be understood as a whole: half a list would show somebody."""
    advice = 'write {"files": [...], "artists": [...]} with names in quotes'
    found = read_json(path, advice)
    for key, names in found.items():
        if key not in ("files", "artists"):
            raise InputError(f"{path} has an unknown key {key[:40]!r}; {advice}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{key} in {path} is not a list of names; {advice}")
        if not all(name.strip() for name in names):
            raise InputError(f"{key} in {path} holds an empty name; {advice}")
    artists = frozenset(plain(name) for name in found.get("artists", []))
    return OptOut(frozenset(found.get("files", [])), artists)


@dataclass
class Requests:
    """The requests as they stand now: the file is read again whenever it has changed."""

    collection: Collection
    named: Path | None = None  # else FILE in the collection's folder, if there is one
    seen: tuple[int, int, int] | None = field(default=None, init=False)
    mask: Bool[Tensor, "train"] | None = field(default=None, init=False)

    @cached_property
    def path(self) -> Path:
        """Give the file's place."""
        return self.named or self.collection.folder / FILE

    def hidden(self) -> Bool[Tensor, "train"] | None:
        """Tell which images are hidden now; None where nobody asked. Names that match nothing are logged."""
        try:
            stat = self.path.stat()
        except OSError as error:
            if self.named or self.seen:  # what must be hidden is unknown, so nothing is shown
                raise InputError(
                    f"{self.path} cannot be read; restore it, if need be empty: {{}}"
                ) from error
            return None
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self.seen:
            requests = read_opt_out(self.path)
            for name in requests.unmatched(self.collection):
                LOG.warning("%s names %r, which the collection does not hold", self.path, name)
            self.mask, self.seen = requests.hidden(self.collection), seen
        return self.mask
