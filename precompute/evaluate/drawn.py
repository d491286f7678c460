"""Ask whether the model drew pictures that have nothing to do with it, and pictures that it drew.

A row is the share of pictures whose trace has a p-value of at most the level (attribution/answer/roundtrip.py). What the model draws are
PROMPTS that people would type, most of them in words that no caption has, and some changed afterwards. Training pictures and
new pictures by the collection's own code look as if they were drawn, too, which their rows say. Unrelated pictures are
drawn with seeds that calibration never saw; `without its own family` calibrates on the other families alone.

  python -m precompute evaluate drawn --results benchmarks/results/calibration.json --update
"""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from attribution.answer.calibration import calibrated_for, p_value, read_calibration
from attribution.answer.roundtrip import trace
from attribution.cache.stamps import collection_of
from attribution.concepts import combinations
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.seeds import FIRST_SEED
from precompute.evaluate.calibration import LEVELS
from precompute.evaluate.config import EvaluateConfig
from precompute.evaluate.statistics import clopper_pearson
from precompute.shipped.scenes import compose
from precompute.shipped.styles import STYLES, draw
from precompute.unrelated import FAMILIES, FOREIGN, draw_unrelated

UNRELATED, KNOWN = 320, 96
AT_ONCE = 8
PROMPTS = (
    "a horse in a field", "a blue bicycle", "an old fisherman", "the eiffel tower at dusk",
    "a bowl of ramen", "a wizard casting a spell", "a train crossing a bridge", "a sleeping fox",
    "a lighthouse in fog", "a samurai", "a hot air balloon over a valley", "a cozy library",
    "a shark under water", "a birthday cake", "a waterfall in the jungle", "a knight on a horse",
    "a piano on a beach", "a snowman", "an owl in a tree", "a cyberpunk street",
    "a field of sunflowers", "a skull", "a ballet dancer", "a tractor on a farm",
    "a cat in a hat", "a butterfly", "a house by the sea", "a woodcut of a rocket",
    "a watercolour of a teapot in the forest", "pixel art of a mushroom", "a neon fish at night",
    "a stained glass sailboat", "a car in the desert", "mountains", "a line drawing of a flower",
    "halftone comic hero", "an oil painting of the sea", "a city at night", "a logo for a coffee shop",
    "test",
)  # fmt: skip


def measure(config: EvaluateConfig) -> list[dict]:
    """Give rows for unrelated pictures, for what the model drew, and for what only looks so."""
    folder = Path(config.cache_dir)
    collection = collection_of(config.train_data_dir, folder)
    model = DiffusionModel.from_pretrained(config.pretrained_model_name_or_path, config.device)
    calibration = read_calibration(
        folder, calibrated_for(model, collection.concepts, collection.sentence)
    )
    if calibration is None or calibration.traces is None:
        raise InputError(
            f"{folder} has no calibration of traces; run python -m precompute calibrate"
        )
    known, families = calibration.traces, list(FAMILIES | FOREIGN)
    traced = lambda images, what: [trace(model, image) for image in tqdm(images, what)]  # noqa: E731

    images, _ = draw_unrelated(config.queries or UNRELATED, FIRST_SEED["evaluation"], model.size)
    unrelated = traced(images, "unrelated pictures")
    rows = shares("false alarms", "unrelated pictures", unrelated, known)
    for number, family in enumerate(families):
        others = known[torch.arange(len(known)) % len(families) != number]
        what = f"unrelated: {family}, calibrated without its own family"
        rows += shares("false alarms", what, unrelated[number :: len(families)], others)

    prompts = PROMPTS[: config.queries or None]
    seeds = [FIRST_SEED["evaluation"] + number for number in range(len(prompts))]
    drawn: list[Image.Image] = []
    for first in tqdm(range(0, len(prompts), AT_ONCE), "drawing"):
        some = slice(first, first + AT_ONCE)
        drawn += model.generate(list(prompts[some]), seeds[some])
    changed = {
        "drawn from prompts that people would type": drawn,
        "the same, saved as JPEG of quality 90": [saved(image, 90) for image in drawn],
        "the same, saved as JPEG of quality 40": [saved(image, 40) for image in drawn],
        "the same, twice as large": [ImageOps.scale(i, 2, Image.Resampling.LANCZOS) for i in drawn],
    }
    for what, some in changed.items():
        rows += shares("detected", what, traced(some, what), known)

    rng = np.random.default_rng(FIRST_SEED["evaluation"])
    chosen = rng.permutation(len(collection))[: config.queries or KNOWN].tolist()
    training = [collection.image(row) for row in chosen]
    what = "training pictures, which the model did not draw"
    rows += shares("look drawn", what, traced(training, what), known)
    new = []
    for values in combinations(collection, False, config.queries or KNOWN, 1):
        shapes = compose(values["subject"], values["background"], rng)
        new.append(draw(shapes, values["style"], STYLES[values["style"]][1][rng.integers(2)], rng))
    what = "the collection's code, new pictures"
    return rows + shares("look drawn", what, traced(new, what), known)


def saved(image: Image.Image, quality: int) -> Image.Image:
    """Save a picture as a JPEG, and open it again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def shares(figure: str, what: str, traces: list[float], null: torch.Tensor) -> list[dict]:
    """Give the share of pictures at or below every level, with its Clopper-Pearson interval."""
    values, rows = [p_value(null, value) for value in traces], []
    for level in LEVELS:
        hits = sum(value <= level for value in values)
        low, high = clopper_pearson(hits, len(values))
        rows.append(
            {
                "method": "trace of the autoencoder",
                "figure": figure,
                "pictures": what,
                "question": "drawn",
                "level": level,
                "share": round(hits / len(values), 4),
                "low": low,
                "high": high,
                "chance": level,
                "measured_on": f"{len(values)} {what}; null of {len(null)}",
            }
        )
    return rows
