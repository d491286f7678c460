"""Honour requests to be left out: which training images must not be shown, and the collection without them.

In: `opt_out.json`, {"files": [...], "artists": [...]}, and under "dates" since when each, where that is known, beside the
collection's metadata or elsewhere. Out: a mask of the collection's images, and `Visible`, the one door through which facts and pictures of single images leave the
library. The file may change at any time, belongs to no cache and needs none made again; what it hides is still in the
model. It knows no score.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from attribution.errors import InputError
from attribution.files import read_json
from attribution.pictures.collection import Collection
from attribution.sentence import Sentence

FILE = "opt_out.json"
WITHHELD = Sentence("withheld on request")  # stands for the artists of hidden images
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OptOut:
    """Files and artists that asked to be left out."""

    files: frozenset[str] = frozenset()
    artists: frozenset[str] = frozenset()
    dates: dict[str, str] = field(default_factory=dict)  # of names, as they were written

    def hidden(self, collection: Collection) -> Bool[Tensor, "train"]:
        """Tell which images are hidden: one by several artists is where any of them asked."""
        pairs = zip(collection.files, collection.labels, strict=True)
        hidden = [
            file in self.files or not self.artists.isdisjoint(artists_of(labels))
            for file, labels in pairs
        ]
        return torch.tensor(hidden)

    def by_date(self) -> list[dict[str, str | int]]:
        """Count artists and pictures by the day of their requests, no name among them, the last first."""
        plainly = {plain(name): day for name, day in self.dates.items()}
        asked = [(plainly.get(name, ""), "artists") for name in self.artists]
        asked += [(self.dates.get(name, ""), "pictures") for name in self.files]
        counts = Counter(asked)
        return [
            {"date": day, "artists": counts[day, "artists"], "pictures": counts[day, "pictures"]}
            for day in sorted({day for day, _ in asked}, reverse=True)
        ]

    def unmatched(self, collection: Collection) -> list[str]:
        """Give what matches no image: a request that is mistyped hides nothing."""
        artists = set().union(*map(artists_of, collection.labels))
        return sorted((self.files - set(collection.files)) | (self.artists - artists))


def plain(name: str) -> str:
    """Write a name so that case, spaces and forms of Unicode do not keep a request from being honoured."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def artists_of(labels: dict[str, str]) -> set[str]:
    """Give the names under which a picture's artists may ask: the label as a whole, and what stands between its commas."""
    label = labels.get("artist", "")
    return {plain(name) for name in (label, *label.split(","))}


def read_opt_out(path: Path) -> OptOut:
    """Read requests, refusing what cannot be understood as a whole: half a list would show somebody."""
    advice = 'write {"files": [...], "artists": [...]} with names in quotes'
    found = read_json(path, advice)
    dates = found.pop("dates", {})
    if not isinstance(dates, dict) or not all(map(is_day, dates.values())):
        raise InputError(
            f'dates in {path} are not as they should be; write {{"name": "2026-01-31"}}'
        )
    for key, names in found.items():
        if key not in ("files", "artists"):
            raise InputError(f"{path} has an unknown key {key[:40]!r}; {advice}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{key} in {path} is not a list of names; {advice}")
        if not all(name.strip() for name in names):
            raise InputError(f"{key} in {path} holds an empty name; {advice}")
    artists = frozenset(plain(name) for name in found.get("artists", []))
    return OptOut(frozenset(found.get("files", [])), artists, dates)


def is_day(text: object) -> bool:
    """Tell whether a text is a day such as 2026-01-31."""
    try:
        return isinstance(text, str) and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@dataclass
class Requests:
    """The requests as they stand now: the file is read again whenever it has changed."""

    collection: Collection
    named: Path | None = None  # else FILE in the collection's folder, if there is one
    known: tuple[tuple[int, ...], OptOut, Bool[Tensor, "train"]] | None = field(
        default=None, init=False
    )

    @cached_property
    def path(self) -> Path:
        """Give the file's place."""
        return self.named or self.collection.folder / FILE

    def hidden(self) -> Bool[Tensor, "train"]:
        """Tell which images are hidden now; where that cannot be known, the log alone says why."""
        return self._now()[1]

    def removed(self) -> list[dict[str, str | int]]:
        """Count what was asked for by day, without names."""
        return self._now()[0].by_date()

    def _now(self) -> tuple[OptOut, Bool[Tensor, "train"]]:
        try:
            return self.read()
        except InputError as error:
            LOG.error("%s", error)
            raise InputError(
                "the list of who is not to be shown cannot be read, so nothing is; its keeper has to mend it"
            ) from error

    def read(self) -> tuple[OptOut, Bool[Tensor, "train"]]:
        """Give the requests, and which images they hide now. Names that match nothing are logged."""
        try:
            stat = self.path.stat()
        except OSError as error:
            if self.named or self.known:  # what must be hidden is unknown, so nothing is shown
                raise InputError(
                    f"{self.path} cannot be read; restore it, if need be empty: {{}}"
                ) from error
            return OptOut(), torch.zeros(len(self.collection), dtype=torch.bool)
        state, known = (stat.st_mtime_ns, stat.st_size, stat.st_ino), self.known
        if not known or state != known[0]:
            requests = read_opt_out(self.path)
            for name in requests.unmatched(self.collection):
                LOG.warning("%s names %r, which the collection does not hold", self.path, name)
            hidden = requests.hidden(self.collection)
            self.known = known = state, requests, hidden  # at once: threads
        return known[1:]


@dataclass(frozen=True)
class Visible:
    """A collection as it may be shown: what is withheld is refused, listed nowhere, and only counted."""

    collection: Collection
    requests: Requests

    def __len__(self) -> int:
        """Count all images, those that are withheld, too."""
        return len(self.collection)

    def withheld(self) -> int:
        """Count the images that are withheld."""
        return int(self.requests.hidden().sum())

    def shown(self, row: int) -> int:
        """Refuse a row that is withheld."""
        if self.requests.hidden()[row]:
            raise InputError("this training picture is withheld at its artist's request")
        return row

    def file(self, row: int) -> str:
        """Name an image's file, relative to the collection's folder."""
        return self.collection.files[self.shown(row)]

    def caption(self, row: int) -> str:
        """Give an image's caption."""
        return self.collection.captions[self.shown(row)]

    def labels(self, row: int) -> dict[str, str]:
        """Give an image's labels."""
        return self.collection.labels[self.shown(row)]

    def image(self, row: int) -> Image.Image:
        """Open one picture as RGB."""
        return self.collection.image(self.shown(row))

    def rows(self) -> list[int]:
        """List all rows."""
        return (~self.requests.hidden()).nonzero()[:, 0].tolist()

    def best(self, scores: Float[Tensor, "train"], count: int) -> list[int]:
        """List the rows that score highest."""
        order = scores.argsort(descending=True, stable=True)
        return order[~self.requests.hidden()[order]][:count].tolist()

    def described(self) -> Iterator[tuple[int, str, dict[str, str]]]:
        """Give every row with its caption and labels."""
        for row in self.rows():
            yield row, self.collection.captions[row], self.collection.labels[row]

    def by(self, artist: str) -> Bool[Tensor, "train"]:
        """Tell which images are an artist's."""
        theirs = [labels.get("artist") == artist for labels in self.collection.labels]
        return torch.tensor(theirs) & ~self.requests.hidden()

    def has(self, column: str) -> bool:
        """Tell whether the collection has a column, whoever is withheld."""
        return any(column in labels for labels in self.collection.labels)

    def names(self, column: str) -> list[str]:
        """Give the values of a column, such as all artists."""
        return sorted({labels[column] for _, _, labels in self.described() if column in labels})
