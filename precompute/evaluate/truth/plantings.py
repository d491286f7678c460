"""Plant new subjects and styles in a collection: copy it and add a few pictures of each.

In: a collection's folder and a list of plantings. Out: an imagefolder with the planted pictures at its end, and
the combinations of every planting that no picture shows, which are left for asking. `concepts.json` stays as it
was, so that no weights are fitted on a planted word.
"""

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from attribution.errors import InputError
from attribution.files import write_whole
from precompute.shipped.backgrounds import BACKGROUNDS
from precompute.shipped.canvas import finish
from precompute.shipped.captions import BACKGROUND_PHRASES, FULL, STYLE_PHRASES
from precompute.shipped.new_styles import NEW_STYLES
from precompute.shipped.new_subjects import NEW_SUBJECTS
from precompute.shipped.scenes import compose
from precompute.shipped.styles import STYLES, draw
from precompute.shipped.subjects import SUBJECTS

Values = dict[str, str]  # concept -> value


@dataclass(frozen=True)
class Planting:
    """A new word, how many pictures of it are planted, and whether they choose settings or measure."""

    concept: str  # "subject" or "style"
    word: str
    count: int
    purpose: str = "evaluation"  # or "validation"

    def __post_init__(self) -> None:
        known = {"subject": NEW_SUBJECTS, "style": NEW_STYLES}
        if self.word not in known.get(self.concept, ()):
            raise InputError(f"there is no new {self.concept} {self.word!r} to plant")
        if self.count < 1:
            raise InputError(f"count is {self.count}; plant at least 1 picture")

    @property
    def phrase(self) -> str:
        """Name what is planted, alone."""
        return f"a {self.word}"


EXEMPLARS = (
    *(
        Planting(concept, word, 1 + number % 5)
        for concept, words in (
            ("subject", ("snail", "crown", "guitar", "windmill", "duck", "umbrella", "bicycle",
                         "lighthouse", "cup", "anchor", "turtle", "ladder")),
            ("style", ("mosaic", "blueprint", "chalk", "stitch", "hatching", "thermal", "relief",
                       "dithered", "crayon", "topographic", "scratchboard", "patchwork")),
        )
        for number, word in enumerate(words)
    ),
    *(Planting("subject", w, n, "validation") for w, n in (("key", 1), ("hammer", 3), ("bell", 5))),
    *(Planting("style", w, n, "validation") for w, n in (("bokeh", 1), ("papercut", 3), ("glitch", 5))),
)  # fmt: skip


def combinations(planting: Planting, seed: int) -> list[Values]:
    """Give all combinations of a planting in a random order: the first `count` are planted, the rest asked for."""
    subjects = [planting.word] if planting.concept == "subject" else list(SUBJECTS)
    styles = [planting.word] if planting.concept == "style" else list(STYLES)
    every = list(itertools.product(subjects, styles, BACKGROUNDS))
    order = np.random.default_rng([seed, *planting.word.encode()]).permutation(len(every))
    return [dict(zip(("subject", "style", "background"), every[i], strict=True)) for i in order]


def phrases(planting: Planting, values: Values) -> dict[str, str]:
    """Give the phrase of each value."""
    known = {
        "subject": f"a {values['subject']}",
        "style": STYLE_PHRASES.get(values["style"], ""),
        "background": BACKGROUND_PHRASES[values["background"]],
    }
    return known | {planting.concept: planting.phrase}


def draw_planting(planting: Planting, seed: int) -> list[tuple[Image.Image, dict[str, str]]]:
    """Draw a planting's pictures, each with a row of the metadata; every caption names what was planted."""
    pictures = []
    for number, values in enumerate(combinations(planting, seed)[: planting.count]):
        rng = np.random.default_rng([seed, number, *planting.word.encode()])
        style = values["style"]
        shapes = compose(values["subject"], values["background"], rng, SUBJECTS | NEW_SUBJECTS)
        if planting.concept == "style":
            artist, image = f"Guest of {style}", finish(NEW_STYLES[style](shapes, rng))
        else:
            shop = STYLES[style][1][number % 2]
            artist, image = shop.name, draw(shapes, style, shop, rng)
        bare = {f"bare_{concept}": value for concept, value in values.items()}
        caption = str(rng.choice(FULL)).format(**phrases(planting, values), **bare)
        about = {"artist": artist, "license": "CC0-1.0"}
        pictures.append((image, {"text": caption, **values, **about}))
    return pictures


def plant(source: Path, folder: Path, plantings: tuple[Planting, ...], seed: int) -> None:
    """Copy a collection's folder and add the plantings; the metadata comes last."""
    metadata = folder / "metadata.jsonl"
    if metadata.is_file():
        return
    unfinished = shutil.ignore_patterns("metadata.jsonl")
    shutil.copytree(source, folder, ignore=unfinished, dirs_exist_ok=True)
    lines = (source / "metadata.jsonl").read_text().splitlines()
    for planting in plantings:
        for number, (image, row) in enumerate(draw_planting(planting, seed)):
            name = f"images/planted-{planting.word}-{number}.png"
            image.save(folder / name, optimize=True)
            lines.append(json.dumps({"file_name": name} | row))
    write_whole(metadata, "\n".join(lines) + "\n")
