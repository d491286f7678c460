"""Make all that the page needs of a model and its pictures, step after step, in one cache.

In: a model, its training images and a folder. Out: gradients and kernel, weights, evidence of what is unrelated, how the
images look, and examples, all in that folder, which also says what it was made from, so that
`ATTRIBUTION_CACHE=FOLDER make app` serves it. Give the same command again after a stop or a change: what is done and still
fits is kept, what is missing or no longer fits is made. Gradients go on within their step, the others begin theirs again.
"""

import sys
import time
from pathlib import Path

from accelerate import PartialState

from attribution.cache.site import Site
from attribution.models.diffusion import DiffusionModel, moving_names
from attribution.pictures.collection import Collection
from attribution.progress import one_line
from precompute.gradients import build, dry_run, prepare
from precompute.made import STEPS, EverythingConfig, World, found


def run(config: EverythingConfig) -> None:
    """Make what is missing, and say what there is."""
    state, started = PartialState(cpu=config.device == "cpu"), time.monotonic()
    folder = Path(config.output_dir)
    model, collection = prepare(config, state)
    if config.dry_run:
        dry_run(Site.of(model, collection, folder, config), state)
        model.keep_encoders()
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
    model.keep_encoders()
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
        said.append(
            "no what-if: the model has no keys and values of words that unlearning could move"
        )
    return said
