"""Make all that the page needs of a model and its pictures, step after step, in one cache.

In: a model, its training images and a folder. Out: gradients and kernel, weights, evidence of what is unrelated, how the
images look, and examples, all in that folder, which also says what it was made from, so that
`ATTRIBUTION_CACHE=FOLDER make app` serves it. Give the same command again after a stop or a change: what is done and still
fits is kept, what is missing or no longer fits is made. Gradients go on within their step, the others begin theirs again.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState

from attribution.answer.calibration import calibrated_for, read_calibration
from attribution.answer.learning import LearnConfig, learn_weights
from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.cache.header import path_of_rows
from attribution.cache.site import Site
from attribution.cache.store import open_cache
from attribution.cache.weights import FitConfig, read_weights, settings_of
from attribution.errors import InputError
from attribution.looks.examples import load_examples
from attribution.models.diffusion import DiffusionModel, moving_names
from attribution.pictures.collection import Collection
from attribution.progress import one_line
from precompute.calibrate import CalibrateConfig, calibrate
from precompute.examples import ExamplesConfig, choose, draw_examples
from precompute.gradients import GradientsConfig, build, dry_run, prepare
from precompute.likeness import keep_likeness

EXAMPLES = "examples"  # in the cache's folder
QUICK = {"queries": 8, "unrelated": 19, "draws": 19, "known": 4}


@dataclass(frozen=True)
class EverythingConfig(GradientsConfig):
    """What decides a cache and all that comes after it; model, images and folder must be said."""

    pretrained_model_name_or_path: str = ""
    train_data_dir: str = ""
    output_dir: str = ""
    queries: int = field(
        default=LearnConfig.queries, metadata={"help": "pictures that are drawn to learn weights"}
    )
    unrelated: int = field(
        default=CalibrateConfig.unrelated, metadata={"help": "pictures that are no evidence"}
    )
    draws: int = field(
        default=CalibrateConfig.draws,
        metadata={"help": "pictures that are drawn and asked for what they do not show"},
    )
    known: int = field(default=36, metadata={"help": "examples that the page opens with"})
    quick: bool = field(
        default=False,
        metadata={
            "help": "draw few pictures, to see whether all steps run; its answers are worth little"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pretrained_model_name_or_path", "train_data_dir", "output_dir"):
            if not getattr(self, name):
                raise InputError(f"say with --{name} what is meant; all three must be said")
        if self.quick:
            for name, few in QUICK.items():
                object.__setattr__(self, name, few)
        self.calibration()

    def calibration(self) -> CalibrateConfig:
        """Give the settings of the step that takes the evidence of what is unrelated."""
        places = self.pretrained_model_name_or_path, self.train_data_dir, self.output_dir
        return CalibrateConfig(*places, self.unrelated, self.draws, seed=self.seed)

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


@dataclass(frozen=True)
class Step:
    """One step after the gradients."""

    name: str
    made: Callable[[World], str | None]  # what there is, in words; nothing where it does not fit
    make: Callable[[World], object]


def run(config: EverythingConfig) -> None:
    """Make what is missing, and say what there is."""
    state, started = PartialState(cpu=config.device == "cpu"), time.monotonic()
    folder = Path(config.output_dir)
    model, collection = prepare(config, state)
    if config.dry_run:
        dry_run(Site.of(model, collection, folder, config), state)
        if state.is_main_process:
            print(drawings(model, collection, config))
        return
    with one_line(f"1/{len(STEPS) + 1} gradients"):
        built = build(model, collection, config, state)
    if not state.is_main_process:
        return
    for note in built.notes:
        print(note, file=sys.stderr)
    said = [("gradients", f"{built.images} pictures ({built.added} new), {built.groups} groups")]
    model.mixed_precision = "no"  # as questions are asked
    world = World(model, collection, folder, config)
    for number, step in enumerate(STEPS, 2):
        kept = found(step, world)
        if not kept:
            with one_line(f"{number}/{len(STEPS) + 1} {step.name}"):
                step.make(world)
        said.append((step.name, f"{kept} (kept)" if kept else found(step, world) or "not made"))
    width = max(len(name) for name, _ in said)
    print(*(f"{name:{width}}  {words}" for name, words in said), *lacking(world), sep="\n")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes; ATTRIBUTION_CACHE={folder} make app")


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
    drawn = settings_of(cache).get("queries", 0)
    words = f"{', '.join(asked)}; from {drawn} drawings"
    return words if drawn >= world.config.queries else None


def make_weights(world: World) -> None:
    """Learn weights, from fewer best images where there are few."""
    few = max(1, min(FitConfig.top_k, len(world.collection) // 3))
    config = LearnConfig(queries=world.config.queries, top_k=few, seed=world.config.seed)
    learn_weights(world.model, world.collection, world.folder, config)


def evidence_made(world: World) -> str | None:
    """Say how many pictures stand for what is unrelated."""
    concepts = world.model.reads(world.collection).concepts
    known = read_calibration(world.folder, calibrated_for(world.model, concepts))
    if known is None or known.unshown.keys() != concepts.keys():
        return None
    drawn = min((len(null) for null in known.unshown.values()), default=world.config.draws)
    if len(known.unrelated) < world.config.unrelated or drawn < world.config.draws:
        return None
    also = f", {drawn} drawings" if concepts else ""
    return f"{len(known.unrelated)} unrelated pictures{also}"


def make_evidence(world: World) -> None:
    """Take the evidence of unrelated pictures, and of what drawings do not show."""
    calibrate(world.model, world.collection, world.folder, world.config.calibration())


def likeness_made(world: World) -> str | None:
    """Say how many images' looks are kept."""
    path = path_of_rows(world.folder, "latents")
    known = world.attributor().look_alikes
    return f"{len(known.codes)} pictures, {path.stat().st_size / 1e6:.1f} MB" if known else None


def examples_made(world: World) -> str | None:
    """Say how many examples there are."""
    folder = world.folder / EXAMPLES
    if not folder.is_dir():
        return None
    examples = load_examples(folder, world.attributor())
    collection = world.model.reads(world.collection)
    asked = {GENERAL, *collection.concepts}
    fits = all(example.answer.phrases.keys() == asked for example in examples)
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


def drawings(model: DiffusionModel, collection: Collection, config: EverythingConfig) -> str:
    """Draw one picture, and say how long all that have to be drawn will take."""
    concepts = model.reads(collection).concepts
    count = config.queries + config.known * (2 if concepts else 1)
    count += config.draws if concepts else 0
    start = time.perf_counter()
    model.generate([collection.captions[0]], [0])
    seconds = time.perf_counter() - start
    return (
        f"{count} pictures to draw for weights, calibrate and examples: about {count * seconds / 60:.1f} minutes at "
        f"{seconds:.1f} seconds each; their gradients and losses come on top"
    )


def lacking(world: World) -> list[str]:
    """Say what the page will not offer, and what to do about it."""
    said, collection = [], world.collection
    if not any(collection.captions):
        said.append("no captions: pictures are told apart by themselves alone")
    if world.model.family.reads == "prompt" and not collection.concepts:
        said.append(
            "no concepts: only whole pictures are asked about; `python -m precompute concepts "
            f"--train_data_dir {collection.folder}` proposes some, then give this command again"
        )
    if not any("artist" in labels for labels in collection.labels):
        said.append("no artists: the page shares nothing out; --artist_column names their column")
    if not world.model.family.maps:
        said.append("no maps: where its layers' positions lie in the picture is not known")
    if not moving_names(world.model):
        said.append("no what-if: the model has no keys and values of words, which unlearning moves")
    return said
