"""Take what an answer's first training images are compared with, to say whether they are named by chance.

In: an attributor. Out: `lists.safetensors` in its cache's folder (attribution/answer/lists.py): how alike pictures are to the
first training images of their lists. Pictures that the model draws, from its collection's words and from others, are asked about
what they were drawn from. The nulls are unrelated pictures, asked in words that are guessed from them and in words that
anybody might type; and, for concepts, what the model drew, asked in words that it does not show.
"""

from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.calibration import described
from attribution.answer.lists import ADVICE, DRAWN, FILE, FIRST, TOLD, stamp, write_lists
from attribution.answer.queries import Query, draw_queries
from attribution.answer.questions import GENERAL, WORDLESS, query_features
from attribution.attributor import Attributor
from attribution.concepts import captioned, combinations, full_prompt
from attribution.described import read_about
from attribution.errors import InputError
from attribution.files import writing
from attribution.gradients.kernel import apply_kernel
from attribution.models.encoded import Encoded
from attribution.progress import counted
from attribution.seeds import FIRST_SEED
from precompute.unrelated import draw_unrelated

GUESSED, TYPED, UNRELATED, OTHER = "guessed words", "typed words", "unrelated", "other words"
Words = dict[str, str]  # question -> phrase
Named = dict[str, Tensor]  # "question: kind" -> alikeness [part] of one picture
PROMPTS = (
    "a dog on a sofa", "a red bicycle against a wall", "an astronaut on the moon", "a bowl of fruit",
    "a dragon over a castle", "a steam train in the snow", "a wolf howling", "a bridge at sunset",
    "a pirate ship", "a cup of coffee", "portrait of a young woman", "a robot in a garden",
    "a rainy street", "a whale in the ocean", "a mountain lake", "a penguin with a scarf", "a violin",
    "an old tree", "a spaceship landing", "a castle on a hill", "a bee on a flower", "a motorbike",
    "a pagoda in spring", "a basket of apples", "a cat sleeping on a book", "a fish tank",
    "a red sports car", "a small house in the woods", "a rocket launch", "a sailboat at sunset",
    "mushrooms in the rain", "a teapot and two cups", "pixel art of a dragon", "a watercolour of a city",
    "a neon tiger", "stained glass of a rose", "a woodcut of a crow", "a comic panel of a car chase",
    "line drawing of a hand", "a pointillist painting of a park", "a butterfly at night",
    "flowers in a vase", "the sea", "a forest", "a desert with cactus", "abstract shapes",
    "hello world", "a cat and a dog",
)  # fmt: skip


def calibrate_lists(attributor: Attributor, count: int, seed: int) -> None:
    """Take and write it, unless it was taken before from as many pictures of the same seed."""
    settings = {"lists": count, "seed": seed, "asked": attributor.collection.asked}
    if taken(attributor) == settings:
        return
    known: dict[str, list[Tensor]] = {}
    for picture in (*of_unrelated(attributor, count, seed), *of_drawn(attributor, count, seed)):
        for name, alike in picture.items():
            known.setdefault(name, []).append(alike)
    with writing(attributor.cache.folder):
        write_lists(attributor.cache, {n: torch.stack(a) for n, a in known.items()}, settings)


def taken(attributor: Attributor) -> dict[str, object]:
    """Give the settings of what was taken before; none where that belongs elsewhere or is damaged."""
    path = attributor.cache.folder / FILE
    try:
        about = read_about(path, stamp(attributor.cache), TOLD, ADVICE) if path.is_file() else {}
    except InputError:
        about = {}
    return about.get("settings", {})


def of_unrelated(attributor: Attributor, count: int, seed: int) -> Iterator[Named]:
    """Ask unrelated pictures, each in guessed words and in a prompt that anybody might type."""
    images, _ = draw_unrelated(count, FIRST_SEED["calibration"] + seed, *attributor.model.sizes)
    captions = captioned(attributor.collection, count, seed)
    pairs = zip(counted(images, "lists of unrelated pictures", "picture"), captions, strict=True)
    for (image, caption), prompt in zip(pairs, cycle(PROMPTS), strict=False):
        yield ask_unrelated(attributor, image, caption, prompt)


def of_drawn(attributor: Attributor, count: int, seed: int) -> Iterator[Named]:
    """Draw pictures, every other from words that the collection may not have, and ask in right and in other words."""
    queries = draw_any(attributor, count, seed)
    for number, query in enumerate(counted(queries, "lists of own draws", "picture")):
        yield ask_drawn(attributor, query, np.random.default_rng([seed, number]))


def draw_any(attributor: Attributor, count: int, seed: int) -> list[Query]:
    """Draw what the collection's words name, and in turn, of a model that reads prompts, what PROMPTS name."""
    collection, model = attributor.collection, attributor.model
    wanted: list[dict[str, str]] = [{}] * count
    if collection.concepts:
        wanted = combinations(collection, held_out=False, count=count, seed=seed)
        named = map(collection.phrases, wanted)
        prompts = [full_prompt(phrases, collection.sentence) for phrases in named]
    else:
        prompts = captioned(collection, count, seed)
    if model.family.reads == "prompt":
        prompts[1::2] = islice(cycle(PROMPTS), count // 2)
        wanted[1::2] = [{}] * (count // 2)
    return draw_queries(model, collection, wanted, "calibration", prompts)


def ask_unrelated(attributor: Attributor, image: Image.Image, caption: str, prompt: str) -> Named:
    """Ask a picture in guessed words (where there are no concepts, a caption), and in somebody's prompt."""
    seen = Encoded(attributor.model, [image])
    words = attributor.describe(seen, "") if attributor.collection.concepts else {}
    alike = ask(attributor, seen, described(words, caption, attributor.collection.sentence))
    found = {f"{q}: {GUESSED if q == GENERAL else UNRELATED}": a for q, a in alike.items()}
    if attributor.model.family.reads == "prompt":
        found[f"{GENERAL}: {TYPED}"] = ask(attributor, seen, {GENERAL: prompt})[GENERAL]
    return found


def ask_drawn(attributor: Attributor, query: Query, rng: np.random.Generator) -> Named:
    """Ask a drawn picture in the words that it was drawn from, and each concept in another phrase."""
    concepts, seen = attributor.collection.concepts, Encoded(attributor.model, [query.image])
    words = attributor.collection.phrases(query.values)
    if words.keys() != concepts.keys():
        words = attributor.describe(seen, query.prompt)
    alike = ask(attributor, seen, {GENERAL: query.prompt} | words)
    found = {f"{q}: {DRAWN}": a for q, a in alike.items()}
    if words:
        alike = ask(attributor, seen, other_words(concepts, words, rng))
        found |= {f"{q}: {OTHER}": a for q, a in alike.items()}
    return found


def other_words(concepts: dict[str, Words], words: Words, rng: np.random.Generator) -> Words:
    """Choose for every concept another phrase at random."""
    return {
        concept: str(rng.choice([p for p in concepts[concept].values() if p != phrase]))
        for concept, phrase in words.items()
    }


def ask(attributor: Attributor, seen: Encoded, words: Words) -> dict[str, Float[Tensor, "part"]]:
    """Say how alike a picture is to the first training images of every question's list."""
    questions = {name: [phrase] for name, phrase in words.items()}
    features = query_features(attributor.extractor, seen, questions, wordless=True)
    bare = features.pop(WORDLESS)
    asked = {n: apply_kernel(f, attributor.cache.kernel)[0] for n, f in features.items()}
    answer = attributor.answer(asked, words, {})
    return attributor.alike_to_lists(answer.each_first(FIRST), features, bare)
