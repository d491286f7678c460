"""Draw example pictures and take their gradients, so that the page opens with answers.

In: a model, its collection, and its cache with weights. Out: a folder of examples (attribution/looks/examples.py): held-out
combinations and known ones, or captions where the collection names no concepts.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from attribution.answer.calibration import described, evidence
from attribution.answer.queries import Query, questions
from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.concepts import captioned, combinations, full_prompt
from attribution.errors import InputError
from attribution.looks.examples import Drawn, write_examples
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.progress import counted


@dataclass(frozen=True)
class ExamplesConfig:
    """Which pictures are drawn, and with what."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    output_dir: str = "assets/examples"
    held_out: int = 60  # pictures of combinations that no training image shows, at most one of each
    known: int = 36  # pictures of other combinations, or of captions
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
    # One at a time and with the page's own seeds, so that a visitor can draw the very same picture.
    for seed, (prompt, values, held_out) in enumerate(
        counted(wanted, "drawing examples", "picture")
    ):
        [image] = model.generate([prompt], [seed])
        phrases = _phrases(collection, values)
        found = evidence(Encoded(model, [image]), described(phrases, prompt))
        drawn.append(Drawn(image, prompt, seed, held_out, {GENERAL: prompt} | phrases, found))
        queries.append(Query(image, values, prompt))
    wordless = not attributor.extractor.rule.contrasts  # else it would be the same as no question
    features = questions(attributor.extractor, collection, queries, wordless=wordless)
    write_examples(Path(config.output_dir), drawn, features, attributor.cache, asdict(config))


def choose(
    config: ExamplesConfig, collection: Collection
) -> list[tuple[str, dict[str, str], bool]]:
    """Choose prompts, the values that they name, and whether the combination is held out."""
    if not collection.concepts:
        return [(prompt, {}, False) for prompt in captioned(collection, config.known, config.seed)]
    counts = {True: min(config.held_out, len(collection.held_out)), False: config.known}
    return [
        (full_prompt(_phrases(collection, values), collection.sentence), values, held_out)
        for held_out, count in counts.items()
        if count
        for values in combinations(collection, held_out, count, config.seed)
    ]


def _phrases(collection: Collection, values: dict[str, str]) -> dict[str, str]:
    return {concept: collection.concepts[concept][value] for concept, value in values.items()}
