"""Draw the shipped collection: subjects x styles x backgrounds, with one combination in eight held out.

In: a seed. Out: a Hugging Face imagefolder (`images/`, `metadata.jsonl`) plus `concepts.json`, the
phrase that names each value of each concept alone, and `held_out.json`, the combinations that no
picture shows. The same seed gives the same bytes.
"""

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from attribution.errors import InputError
from precompute.shipped.backgrounds import BACKGROUNDS
from precompute.shipped.captions import BACKGROUND_PHRASES, STYLE_PHRASES, caption
from precompute.shipped.scenes import compose
from precompute.shipped.styles import STYLES, draw
from precompute.shipped.subjects import SUBJECTS


@dataclass(frozen=True)
class CollectionConfig:
    """What decides every byte of the collection."""

    output_dir: str = "assets/collection"
    copies: int = 4  # pictures of each combination that is not held out
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise InputError(f"copies is {self.copies}; it must be at least 1")


def is_held_out(subject: int, style: int, background: int) -> bool:
    """Hold out one combination in eight, at most one for each pair of subject and style."""
    return (subject + 3 * style + 5 * background) % 8 == 0


Combination = tuple[tuple[int, str], tuple[int, str], tuple[int, str]]  # numbered values


def draw_one(seed: int, combination: Combination, copy: int) -> tuple[Image.Image, dict[str, str]]:
    """Draw one picture and give its row of the metadata, without the file's name."""
    (i, subject), (j, style), (k, background) = combination
    rng = np.random.default_rng([seed, i, j, k, copy])
    shop = STYLES[style][1][copy % 2]
    image = draw(compose(subject, background, rng), style, shop, rng)
    row = {"text": caption(subject, style, background, rng)}
    row |= {"subject": subject, "style": style, "background": background}
    return image, row | {"artist": shop.name, "license": "CC0-1.0"}


def run(config: CollectionConfig) -> None:
    """Draw every picture and write the folder; the metadata comes last, when all pictures are there."""
    folder = Path(config.output_dir)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    combinations = list(
        itertools.product(enumerate(SUBJECTS), enumerate(STYLES), enumerate(BACKGROUNDS))
    )
    kept = [c for c in combinations if not is_held_out(*(index for index, _ in c))]
    rows = []
    for copy, combination in tqdm(
        list(itertools.product(range(config.copies), kept)), desc="drawing", unit="picture"
    ):
        image, row = draw_one(config.seed, combination, copy)
        name = f"images/{len(rows):05d}.webp"
        image.save(folder / name, lossless=True, quality=60, method=4)  # two thirds of a PNG
        rows.append({"file_name": name} | row)
    concepts = {
        "subject": {s: f"a {s}" for s in SUBJECTS},
        "style": STYLE_PHRASES,
        "background": BACKGROUND_PHRASES,
    }
    held_out = [
        {"subject": s, "style": t, "background": b}
        for (i, s), (j, t), (k, b) in combinations
        if is_held_out(i, j, k)
    ]
    (folder / "concepts.json").write_text(json.dumps(concepts, indent=1) + "\n")
    (folder / "held_out.json").write_text(json.dumps(held_out, indent=1) + "\n")
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    part = folder / "metadata.jsonl.part"
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part.rename(folder / "metadata.jsonl")
    print(
        f"{len(rows)} pictures in {folder}, {len(held_out)} of {len(combinations)} combinations held out"
    )
