"""Change training pictures and ask for them again; then leave them out, and ask once more.

A training picture is found where it is named, or one that looks the same to the thumbnail. A false alarm is any name for a
picture that was left out, with all that look the same: all others of its style, and of its combination, are still there.
`false_alarms_other_subjects` leaves out the pictures of its subject, too: packs of real pictures hold the same drawing retouched. One half of the pictures is for choosing the limits: of these alone,
`furthest_copy` and `nearest_other` tell how far from the limit (1 means at it) the worst lie. Figures are of the other half.
`--train_data_dir` names the collection; no model is asked, and no cache is read.

  python -m precompute evaluate identity --update
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from attribution.answer.copies import OFF_COLOUR, UNLIKE, Copy, compare
from attribution.answer.thumbnails import Thumbnails, make_thumbnails
from attribution.pictures.collection import Collection, load_collection
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import clopper_pearson

PICTURES, CHOOSING = 500, 100  # of each half, at most
KEPT = 0.9  # of width and height
QUALITY = 40
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def resized(share: float) -> Change:
    """Change the sides to a share of what they are."""
    return lambda image, _: ImageOps.scale(image, share, Image.Resampling.LANCZOS)


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut a tenth of width and height off, anywhere."""
    width, height = (round(side * KEPT) for side in image.size)
    x, y = (int(rng.integers(a - b + 1)) for a, b in zip(image.size, (width, height), strict=True))
    return image.crop((x, y, x + width, y + height))


def recompress(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Save as a JPEG of low quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Change] = {
    "none": lambda image, _: image,
    "half as large": resized(0.5),
    "half as large again": resized(1.5),
    "cropped by 10 %": crop,
    "recompressed at quality 40": recompress,
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "cropped, mirrored, recompressed": lambda image, rng: recompress(
        ImageOps.mirror(crop(image, rng)), rng
    ),
}

SINGLE = list(CHANGES)[:-1]


def measure(config: EvaluateConfig) -> list[dict]:
    """Give a row for every change, and one for all that a near copy may have gone through."""
    collection = load_collection(config.train_data_dir)
    images = [collection.image(row) for row in tqdm(range(len(collection)), "reading pictures")]
    known, name = make_thumbnails(images), named(collection)
    order = np.random.default_rng(config.seed).permutation(len(collection))
    half = len(order) // 2
    reported = order[half:][: config.queries or PICTURES]
    rows, single = [], Asked()
    for number, (change, make) in enumerate(CHANGES.items()):
        rng = np.random.default_rng([config.seed, number])
        choosing, asked = Asked(), Asked()
        choosing.ask(collection, known, images, order[:half][:CHOOSING], make, rng)
        asked.ask(collection, known, images, reported, make, rng)
        rows.append(row_of(name, change, len(collection), choosing, asked))
        if change in SINGLE:
            single.add(asked)
    return [row_of(name, "any one of these", len(collection), None, single), *rows]


def named(collection: Collection) -> str:
    """Name a collection by its folder, or by the one above of an imagefolder with several parts."""
    folder = collection.folder.resolve()
    return folder.parent.name if folder.name == "train" else folder.name


def row_of(name: str, change: str, size: int, choosing: "Asked | None", asked: "Asked") -> dict:
    """Write down what came of a change."""
    limits = {}
    if choosing:
        far, near = max(choosing.far), min(choosing.near)
        limits = {"furthest_copy": round(far, 4), "nearest_other": round(near, 4)}
    count = len(asked.found)
    return {
        "method": f"thumbnails of {name}",
        "collection": f"{name}, {size} pictures",
        "change": change,
        **share("recall", "", asked.found),
        **share("false_alarms", "false_", asked.false),
        "false_alarms_other_subjects": round(sum(asked.strange) / count, 4),
        "chance": round(1 / size, 6),
        **limits,
        "asked": count,
        "milliseconds": round(1000 * asked.seconds / count, 1),
        "measured_on": f"{count} changed pictures of {name}, none of them used for the limits",
    }


def share(name: str, before: str, hits: list[bool]) -> dict:
    """Give a share with its Clopper-Pearson interval."""
    low, high = clopper_pearson(sum(hits), len(hits))
    return {name: round(sum(hits) / len(hits), 4), f"{before}low": low, f"{before}high": high}


@dataclass
class Asked:
    """What was said of changed pictures, with them in the collection and without."""

    found: list[bool] = field(default_factory=list)
    false: list[bool] = field(default_factory=list)
    strange: list[bool] = field(default_factory=list)  # false alarms that are of another subject
    far: list[float] = field(default_factory=list)  # distance of the picture itself
    near: list[float] = field(default_factory=list)  # distance of the nearest other
    seconds: float = 0.0  # of a processor, for a look-up

    def ask(
        self, collection: Collection, known: Thumbnails, images: list[Image.Image], rows: np.ndarray,
        change: Change, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Change pictures, and ask for each twice."""
        subjects = np.array([labels.get("subject", "") for labels in collection.labels])
        for row in tqdm(rows, "changed pictures"):
            image, twins = change(images[row], rng), alike(known, row, len(collection))
            started = time.process_time()
            here = [distance(copy) for copy in compare(image, known) if twins[copy.row]]
            self.seconds += time.process_time() - started
            gone = [distance(copy) for copy in compare(image, known, twins)]
            self.far.append(min(here, default=np.inf))
            self.near.append(min(gone, default=np.inf))
            self.found.append(self.far[-1] <= 1)
            self.false.append(self.near[-1] <= 1)
            others = twins | (subjects == subjects[row])
            self.strange.append(
                self.false[-1] and min(map(distance, compare(image, known, others))) <= 1
            )

    def add(self, other: "Asked") -> None:
        """Take in what was said of others."""
        self.found, self.false = self.found + other.found, self.false + other.false
        self.strange, self.seconds = self.strange + other.strange, self.seconds + other.seconds


def alike(known: Thumbnails, row: int, count: int) -> np.ndarray:
    """Tell which rows of the collection have the same thumbnail as one of them."""
    view = int((known.rows == row).argmax())
    same = (known.grey == known.grey[view]).all((1, 2))
    same &= (known.colour == known.colour[view]).all((1, 2, 3))
    found = np.zeros(count, bool)
    found[known.rows[same]] = True
    return found


def distance(copy: Copy) -> float:
    """Say how far from being a near copy a training picture is; 1 at most makes it one."""
    return max(copy.unlike / UNLIKE, copy.off_colour / OFF_COLOUR)
