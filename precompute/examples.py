"""Draw example pictures and take their gradients, so that the page opens with answers.

In: a model, its collection, and its cache with weights. Out: a folder of examples (attribution/looks/examples.py): held-out
combinations and known ones, or captions where the collection names no concepts. A judge, where one is named, chooses among
drawings of each by how sure it is of what they show.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from attribution.answer.calibration import described, evidence
from attribution.answer.queries import Query, questions
from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.concepts import captioned, combinations, full_prompt
from attribution.errors import InputError
from attribution.looks.examples import Drawn, write_examples
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.progress import counted
from precompute.judge import judge_of

TRIES = 4  # drawings of each example that a judge chooses among


@dataclass(frozen=True)
class ExamplesConfig:
    """Which pictures are drawn, and with what."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    output_dir: str = "assets/examples"
    held_out: int = 60  # pictures of combinations that no training image shows, at most one of each
    known: int = 36  # pictures of other combinations, or of captions
    judge: str = field(
        default="",
        metadata={
            "help": f"a judge's file (trained if it is not there): of {TRIES} drawings, the one it recognises best"
        },
    )
    device: str = "cpu"
    follow_links: bool = False  # to pictures outside the collection's folder
    seed: int = 0

    def __post_init__(self) -> None:
        if self.held_out < 0 or self.known < 1:
            raise InputError("held_out must be at least 0, and known at least 1")


def run(config: ExamplesConfig) -> None:
    """Open the attributor and give it examples."""
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device,
        follow_links=config.follow_links,
    )  # fmt: skip
    draw_examples(attributor, config)


def draw_examples(attributor: Attributor, config: ExamplesConfig) -> None:
    """Draw the pictures, ask every question about them and write both."""
    model, collection = attributor.model, attributor.collection
    queries, drawn = [], []
    wanted = choose(config, collection)
    seeds = (
        best_recognised(model, collection, wanted, config) if config.judge else range(len(wanted))
    )
    shown = counted(list(zip(wanted, seeds, strict=True)), "drawing examples", "picture")
    # One at a time and with the page's own seeds, so that a visitor can draw the very same picture.
    for (prompt, values, held_out), seed in shown:
        [image] = model.generate([prompt], [seed])
        phrases = collection.phrases(values)
        words, sentence = described(phrases, prompt, collection.sentence), collection.sentence
        found = evidence(Encoded(model, [image]), words, sentence)
        drawn.append(Drawn(image, prompt, seed, held_out, {GENERAL: prompt} | phrases, found))
        queries.append(Query(image, values, prompt))
    wordless = not attributor.extractor.rule.contrasts  # else it would be the same as no question
    features = questions(attributor.extractor, collection, queries, wordless=wordless)
    settings = asdict(config) | {"asked": attributor.collection.asked}
    write_examples(Path(config.output_dir), drawn, features, attributor.cache, settings)


def choose(
    config: ExamplesConfig, collection: Collection
) -> list[tuple[str, dict[str, str], bool]]:
    """Choose prompts, the values that they name, and whether the combination is held out."""
    if not collection.concepts:
        return [(prompt, {}, False) for prompt in captioned(collection, config.known, config.seed)]
    counts = {True: min(config.held_out, len(collection.held_out)), False: config.known}
    return [
        (full_prompt(collection.phrases(values), collection.sentence), values, held_out)
        for held_out, count in counts.items()
        if count
        for values in combinations(collection, held_out, count, config.seed)
    ]


def best_recognised(
    model: DiffusionModel,
    collection: Collection,
    wanted: list[tuple[str, dict[str, str], bool]],
    config: ExamplesConfig,
) -> list[int]:
    """Draw each prompt under several seeds, and give those whose pictures a judge is surest of, in its least sure concept."""
    judge, chosen = judge_of(collection, model.size, Path(config.judge)), []
    shown = counted(wanted, "drawing to choose among", "prompt")
    for number, (prompt, values, _) in enumerate(shown):
        seeds = [number * TRIES + n for n in range(TRIES)]
        sure = judge.confidence(model.generate([prompt] * TRIES, seeds))
        asked = [sure[c][:, judge.values[c].index(value)] for c, value in values.items()]
        chosen.append(seeds[int(torch.stack(asked).amin(0).argmax())])
    return chosen
