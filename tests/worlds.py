"""Make three small worlds as their owners would have them: a model, its pictures, and what is said of these.

SD with concepts of its own names; SDXL with captions alone; DDPM with pictures and nothing else.
"""

import json

import numpy as np
from families import saved
from PIL import Image

MEDIA = {"oil": "oil paint", "ink": "black ink"}
ANIMALS = {"cat": "a cat", "dog": "a dog", "bird": "a red bird"}
COUNT = 30


def pictures(folder, rows):
    """Write a picture of noise for each row, whose colour follows its words, and the rows beside them."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number, row in enumerate(rows):
        pixels = draw.integers(0, 200, (16, 16, 3)) + 20 * (len(json.dumps(row)) % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.png")
    lines = [json.dumps({"file_name": f"{n:02d}.png"} | row) for n, row in enumerate(rows) if row]
    if lines:
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def with_concepts(root):
    """SD: two concepts that are not called as ours are, their sentence, and no artists."""
    pairs = [(medium, animal) for medium in MEDIA for animal in ANIMALS] * (COUNT // 6)
    rows = [
        {"text": f"{ANIMALS[a]} in {MEDIA[m]}", "medium": m, "animal": a, "title": f"No. {n}"}
        for n, (m, a) in enumerate(pairs)
    ]
    images = pictures(root / "images", rows)
    told = {"prompt": "{animal} in {medium}", "medium": MEDIA, "animal": ANIMALS}
    (images / "concepts.json").write_text(json.dumps(told))
    return saved("sd", root / "model"), images


def with_captions(root):
    """SDXL: captions and artists."""
    rows = [
        {"text": f"{list(ANIMALS.values())[n % 3]} on the grass", "artist": f"Painter {n % 4}"}
        for n in range(COUNT)
    ]
    return saved("sdxl", root / "model"), pictures(root / "images", rows)


def wordless(root):
    """DDPM: pictures."""
    return saved("ddpm", root / "model"), pictures(root / "images", [{}] * COUNT)


WORLDS = {"concepts": with_concepts, "captions": with_captions, "wordless": wordless}
