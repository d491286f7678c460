"""Hold the steps that `all` makes: what of each is there and still fits, and how it is made.

In: a `World`, a model with its images and the folder of all that is made of them. Out: what there is, in words. What is
damaged, of something else, of other concepts or of fewer pictures than are asked for does not fit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from attribution.answer.calibration import calibrated_for, read_calibration
from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.cache.header import path_of_rows
from attribution.cache.store import open_cache
from attribution.cache.weights import FitConfig, read_weights, settings_of
from attribution.errors import InputError
from attribution.looks.examples import drawn_with, load_examples
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection
from precompute.calibrate import CalibrateConfig, calibrate
from precompute.examples import ExamplesConfig, choose, draw_examples
from precompute.gradients import GradientsConfig
from precompute.likeness import keep_likeness
from precompute.lists import taken

EXAMPLES = "examples"  # in the cache's folder
QUICK = {"queries": 8, "unrelated": 19, "draws": 19, "lists": 0, "known": 4}


class Unsaid(int):
    """A number that nobody gave, in whose place `quick` may put a smaller one."""


@dataclass(frozen=True)
class EverythingConfig(GradientsConfig):
    """What decides a cache and all that comes after it; model, images and folder must be said."""

    pretrained_model_name_or_path: str = ""
    train_data_dir: str = ""
    output_dir: str = ""
    queries: int = field(
        default=Unsaid(LearnConfig.queries),
        metadata={"help": "pictures that are drawn to learn weights"},
    )
    unrelated: int = field(
        default=Unsaid(CalibrateConfig.unrelated),
        metadata={"help": "pictures that are no evidence"},
    )
    draws: int = field(
        default=Unsaid(CalibrateConfig.draws),
        metadata={"help": "pictures that are drawn and asked for what they do not show"},
    )
    lists: int = field(
        default=Unsaid(CalibrateConfig.lists),
        metadata={"help": "pictures of each kind that lists are compared with; 0: none"},
    )
    known: int = field(default=Unsaid(36), metadata={"help": "examples that the page opens with"})
    quick: bool = field(
        default=False,
        metadata={
            "help": "draw few pictures where it is not said how many, to see whether all steps run; its answers are worth little"
        },
    )
    part: str = field(default="", metadata={"hidden": True})  # a cache in parts is not closed yet

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pretrained_model_name_or_path", "train_data_dir", "output_dir"):
            if not getattr(self, name):
                raise InputError(f"say with --{name} what is meant; all three must be said")
        for name, few in QUICK.items():
            asked = getattr(self, name)
            quick = self.quick and isinstance(asked, Unsaid)
            object.__setattr__(self, name, few if quick else int(asked))
        self.calibration()

    def calibration(self) -> CalibrateConfig:
        """Give the settings of the step that takes the evidence of what is unrelated."""
        places = self.pretrained_model_name_or_path, self.train_data_dir, self.output_dir
        return CalibrateConfig(*places, self.unrelated, self.draws, self.lists, seed=self.seed)

    def examples(self) -> ExamplesConfig:
        """Give the settings of the step that draws examples; half are of what no picture shows."""
        folder = self.output_dir
        places = self.pretrained_model_name_or_path, self.train_data_dir, folder
        return ExamplesConfig(*places, f"{folder}/{EXAMPLES}", self.known // 2, self.known)


@dataclass(frozen=True)
class World:
    """A model, its images and the folder of all that is made of them."""

    model: DiffusionModel
    collection: Collection
    folder: Path
    config: EverythingConfig

    def attributor(self) -> Attributor:
        """Open what is made so far."""
        expected = {"model": self.model.fingerprint, "collection": self.collection.fingerprint()}
        return Attributor(self.model, self.collection, open_cache(self.folder, expected))

    def asked(self, settings: dict) -> bool:
        """Tell whether a step asked in today's words: an edit of concepts.json changes them."""
        return settings.get("asked") == self.model.reads(self.collection).asked


@dataclass(frozen=True)
class Step:
    """One step after the gradients."""

    name: str
    made: Callable[[World], str | None]  # what there is, in words; nothing where it does not fit
    make: Callable[[World], object]


def found(step: Step, world: World) -> str | None:
    """Say what of a step is there; what is damaged or of something else is nothing."""
    try:
        return step.made(world)
    except InputError:
        return None


def weights_made(world: World) -> str | None:
    """Say which questions have weights, if they are those of today's concepts and of drawings enough."""
    asked = [GENERAL, *world.model.reads(world.collection).concepts]
    cache = open_cache(world.folder, {"model": world.model.fingerprint})
    if {*asked, "equalised"} != read_weights(cache).keys():
        return None
    settings = settings_of(cache)
    drawn = settings.get("queries", 0)
    words = f"{', '.join(asked)}; from {drawn} drawings"
    return words if drawn >= world.config.queries and world.asked(settings) else None


def make_weights(world: World) -> None:
    """Learn weights, from fewer best images where there are few."""
    few = max(1, min(FitConfig.top_k, len(world.collection) // 3))
    config = LearnConfig(queries=world.config.queries, top_k=few, seed=world.config.seed)
    learn_weights(world.model, world.collection, world.folder, config)


def evidence_made(world: World) -> str | None:
    """Say how many pictures stand for what is unrelated."""
    read = world.model.reads(world.collection)
    concepts, asked_for = read.concepts, calibrated_for(world.model, read.concepts, read.sentence)
    known = read_calibration(world.folder, asked_for)
    if known is None or known.unshown.keys() != concepts.keys():
        return None
    drawn = min((len(null) for null in known.unshown.values()), default=world.config.draws)
    if len(known.unrelated) < world.config.unrelated or drawn < world.config.draws:
        return None
    lists = lists_made(world)
    if lists is None:
        return None
    also = f", {drawn} drawings" if concepts else ""
    return f"{len(known.unrelated)} unrelated pictures{also}{lists}"


def lists_made(world: World) -> str | None:
    """Say how many pictures lists are compared with: nothing where they were not wanted, None where they lack."""
    its = world.attributor()
    if not world.config.lists or its.extractor.rule.contrasts:
        return ""
    count = min((len(a) for a in its.lists.known.values()), default=0) if its.lists else 0
    kept = count >= world.config.lists and world.asked(taken(its))
    return f", {count} for lists" if kept else None


def make_evidence(world: World) -> None:
    """Take the evidence of unrelated pictures, and of what drawings do not show."""
    calibrate(world.model, world.collection, world.folder, world.config.calibration())


def likeness_made(world: World) -> str | None:
    """Say how many images' looks are kept."""
    path = path_of_rows(world.folder, "latents")
    attributor = world.attributor()
    known = attributor.look_alikes
    if known is None or attributor.thumbnails is None:
        return None
    return f"{len(known.codes)} pictures, {path.stat().st_size / 1e6:.1f} MB"


def examples_made(world: World) -> str | None:
    """Say how many examples there are."""
    folder = world.folder / EXAMPLES
    if not folder.is_dir():
        return None
    its = world.attributor()
    examples = load_examples(folder, its)
    collection = world.model.reads(world.collection)
    asked = {GENERAL, *collection.concepts}
    asked_so = world.asked(drawn_with(folder, its.cache))
    fits = asked_so and all(
        example.answer.phrases.keys() == asked
        and bool(example.answer.evidence or world.model.family.reads != "nothing")
        for example in examples
    )
    enough = len(examples) >= len(choose(world.config.examples(), collection))
    return f"{len(examples)} pictures" if fits and enough else None


def make_examples(world: World) -> None:
    """Draw the examples, and take their gradients."""
    draw_examples(world.attributor(), world.config.examples())


STEPS = (
    Step("weights", weights_made, make_weights),
    Step("calibrate", evidence_made, make_evidence),
    Step("likeness", likeness_made, lambda w: keep_likeness(w.model, w.collection, w.folder)),
    Step("examples", examples_made, make_examples),
)
