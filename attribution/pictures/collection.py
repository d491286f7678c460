"""Read a collection: pictures with captions and labels, in a fixed order.

In: a folder or a Hub id, however the pictures are kept (sources.py), and what its text files say of them. Out: a
`Collection`, whose i-th row is the i-th training image everywhere in the project. It knows no model.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xxhash
from jaxtyping import Float
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from attribution.errors import InputError
from attribution.files import hash_of, read_bytes
from attribution.pictures.hub import local_folder
from attribution.pictures.layout import Layout
from attribution.pictures.listing import Stamp
from attribution.pictures.size import Size
from attribution.pictures.sources import MOST_PICTURE, find_source
from attribution.pictures.vocabulary import check_shown, read_concepts, read_held_out
from attribution.sentence import Sentence


@dataclass(frozen=True)
class Row:
    """What identifies one training image: its file, and a hash of its bytes and its caption."""

    file: str
    digest: str


Known = dict[
    int, tuple[Stamp, str]
]  # key_of(file, caption) -> stamp of the file, digest of the row
MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384  # pixels
FORMATS = ("JPEG", "PNG", "WEBP")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's orientation (JEITA CP-3451, tag 0x0112)
CONCEPTS = ("subject", "style", "background")


@dataclass(frozen=True)
class Collection:
    """The training images of a model, their captions and labels, in one fixed order."""

    folder: Path
    files: list[str]  # relative to the folder, or names within its shards
    captions: list[str]
    labels: list[dict[str, str]]  # every other column of the metadata
    concepts: dict[str, dict[str, str]]  # concept -> value -> the phrase that names it alone
    held_out: list[dict[str, str]]  # combinations of values that no picture shows
    sentence: str = ""  # that names every concept, such as "{style} of {subject}"
    layout: Layout = field(default_factory=Layout)  # how it was read
    read: Callable[[str], bytes] | None = None  # a picture, by its file; else it lies in the folder
    stamp: Callable[[str], Stamp] | None = None  # size and time of change of what holds it
    known: Known = field(default_factory=dict, repr=False)  # what need not be read again

    def __len__(self) -> int:
        return len(self.files)

    @property
    def asked(self) -> str:
        """Hash the words in which concepts are asked: phrases, and the sentence that joins them."""
        return hash_of([self.concepts, self.sentence])

    def image(self, index: int) -> Image.Image:
        """Open one picture as RGB."""
        try:
            return open_image(self.data(self.files[index]))
        except InputError as error:
            raise InputError(f"{self.folder / self.files[index]}: {error}") from error

    def data(self, file: str) -> bytes:
        """Read a picture's bytes."""
        return self.read(file) if self.read else read_bytes(self.folder / file, MOST_PICTURE)

    def without(self, files: Iterable[str]) -> "Collection":
        """Leave out some pictures, and remember which."""
        gone = {*files}
        kept = [row for row, file in enumerate(self.files) if file not in gone]
        if not kept:
            raise InputError(f"no picture of {self.folder} is left; check the path")
        lists = {
            n: [getattr(self, n)[row] for row in kept] for n in ("files", "captions", "labels")
        }
        left_out = tuple(sorted({*self.layout.left_out, *gone}))
        return replace(self, **lists, layout=replace(self.layout, left_out=left_out))

    @cached_property
    def rows(self) -> list[Row]:
        """Identify every image by its file and by a hash of its bytes and caption (SHA-256)."""
        shown = {"desc": "reading pictures", "unit": "picture", "delay": 2, "leave": False}
        pairs = tqdm(zip(self.files, self.captions, strict=True), total=len(self), **shown)
        return [Row(file, self._digest(file, caption)) for file, caption in pairs]

    def _digest(self, file: str, caption: str) -> str:
        if self.known and self.stamp:
            stamp, known = self.known.get(key_of(file, caption), (None, ""))
            if stamp == self.stamp(file):
                return known
        digest = hashlib.sha256(self.data(file))
        digest.update(hashlib.sha256(caption.encode()).digest())
        return digest.hexdigest()[:16]

    def phrases(self, values: dict[str, str]) -> dict[str, str]:
        """Give the phrase of each concept's value."""
        return {concept: self.concepts[concept][value] for concept, value in values.items()}

    def fingerprint(self) -> str:
        """Hash what the images are, in no order (SHA-256, 16 hex digits)."""
        return fingerprint_of(self.rows)


def key_of(file: str, caption: str) -> int:
    """Name an image in what is known (XXH3, 63 bits)."""
    return xxhash.xxh3_64_intdigest(f"{file}\0{caption}".encode()) >> 1


def fingerprint_of(rows: list[Row]) -> str:
    """Hash a set of images."""
    lines = sorted(f"{row.digest} {row.file}" for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def load_collection(
    name: str | Path, layout: Layout | None = None, known: Known | None = None
) -> Collection:
    """Load a collection from a folder or by its Hub id, refusing what is not there, is malformed or lies outside.

    What is `known` of an image is believed as long as its file's size and time of change are the same.
    """
    folder, layout = local_folder(name, "collection"), layout or Layout()
    source = find_source(folder, layout)
    files, captions = [e.file for e in source.entries], [e.caption for e in source.entries]
    labels, (concepts, sentence) = [e.labels for e in source.entries], read_concepts(folder)
    check_shown(concepts, labels, folder)
    held_out = read_held_out(folder, concepts)
    found = Collection(
        folder, files, captions, labels, concepts, held_out, sentence, layout, source.read,
        source.stamp, known or {},
    )  # fmt: skip
    return found.without(layout.left_out) if layout.left_out else found


def open_image(source: str | Path | bytes) -> Image.Image:
    """Decode an untrusted picture to upright 8-bit RGB; transparency falls on white, and pixels alone remain.

    Raises InputError for anything that is not a whole, still JPEG, PNG or WebP of at most 40 megapixels and
    16,384 pixels a side. Of a phone's JPEG that holds several pictures (MPO) the first counts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    told = (
                        "the image has {width} x {height} pixels; the limit is 40 megapixels and {side} a "
                        "side, make it smaller"
                    )
                    raise InputError(Sentence(told, width=width, height=height, side=MAX_SIDE))
                if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                    raise InputError(
                        "the image is animated; save one frame of it as a still picture"
                    )
                image.load()
                # ImageOps.exif_transpose packs all tags anew, and fails where any of them is odd.
                turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
                image = image if turn is None else image.transpose(turn)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError("the image has more than 40 megapixels; make it smaller") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a forged file makes Pillow raise anything
        raise InputError(
            "the file is not a readable JPEG, PNG or WebP image; save it again"
        ) from error
    image = as_rgb(image)
    return Image.frombytes("RGB", image.size, image.tobytes())  # no text, profile or position


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture of any mode into 8-bit RGB; transparency falls on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        array = np.asarray(image, dtype=np.float32)
        peak = 65535.0 if array.max(initial=0) > 255 else 255.0
        return Image.fromarray((np.clip(array / peak, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def cropped(image: Image.Image, size: Size) -> Image.Image:
    """Resize and crop a picture to what the model sees of it: the most of its middle that has the size's shape, as RGB."""
    image = as_rgb(image)
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def to_pixels(images: list[Image.Image], size: Size) -> Float[Tensor, "batch 3 height width"]:
    """Crop pictures to a size and scale them to [-1, 1]."""
    pixels = torch.from_numpy(np.stack([np.asarray(cropped(i, size)) for i in images]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
