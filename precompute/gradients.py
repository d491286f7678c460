"""Cache the projected gradients of every training image, layer by layer, and make the kernel.

In: a model folder and an image folder. Out: a cache folder that belongs to exactly these two
(attribution/cache/build.py). The same command always makes the cache what the folder is now: a run that was stopped
goes on where it was, images that are new are added, images (or captions) that are gone are removed from disk and from
the kernel's sums, and a damaged shard is made anew. Where more than a tenth of the images would be removed, `--remove`
must say that it is meant. `accelerate launch -m precompute gradients ...` splits the work over processes and machines
that share the output folder; `--part i/n`, n jobs of Slurm, Ray or Kubernetes that know nothing of one another, in any order and
as often as needed, after which the same command without it closes the cache. Methods whose training features are the same (all that take the loss's gradient)
differ in the kernel or in their queries alone, so that one's shards serve the others.
"""

import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import PartialState

from attribution.cache.build import Built, build_cache
from attribution.cache.origin import Origin, write_origin
from attribution.cache.parts import make_part, part_named
from attribution.cache.site import CacheConfig, Site
from attribution.cache.stamps import read_stamps
from attribution.cache.store import layout_of
from attribution.errors import InputError
from attribution.models.diffusion import MIXED, DiffusionModel
from attribution.models.precision import PRECISIONS
from attribution.pictures.check import check_collection
from attribution.pictures.collection import Collection, load_collection
from attribution.pictures.layout import Layout, layout_in
from attribution.pictures.size import sizes_of
from precompute.bar import bar
from precompute.room import Way, told


@dataclass(frozen=True)
class GradientsConfig(CacheConfig, Layout):
    """What decides a cache, the model and the collection that it is made of, and where."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    output_dir: str = "assets/cache"
    resolution: str = field(
        default="",
        metadata={
            "help": "the pictures' side in pixels (512), or width and height (768x512), if not the model's own; of several "
            "(512,640x448,448x640) the first is drawn, and each picture is cropped to the nearest"
        },
    )
    precision: str = field(
        default="fp32",
        metadata={
            "choices": tuple(PRECISIONS),
            "help": "of the model's parameters; later steps load it so, too",
        },
    )
    mixed_precision: str = field(default="no", metadata={"choices": MIXED})
    gradient_checkpointing: bool = False
    offload_encoders: bool = field(
        default=False,
        metadata={
            "help": "encode a shard's pictures and captions first, and then keep the denoiser alone on the device"
        },
    )
    device: str = "cpu"
    part: str = field(
        default="",
        metadata={
            "help": "i/n: make the i-th of n parts of the shards, and do not close the cache"
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "open every picture, say what is wrong and what time and disk it needs, and stop"
        },
    )
    skip_broken: bool = field(
        default=False, metadata={"help": "leave out pictures that cannot be read, for good"}
    )


def run(config: GradientsConfig) -> None:
    """Build the cache, or say what that would take."""
    part_named(config.part or "1/1")
    state = PartialState(cpu=config.device == "cpu")
    model, collection = prepare(config, state)
    if config.dry_run:
        dry_run(Site.of(model, collection, Path(config.output_dir), config), state)
        return
    if config.part:
        build_part(model, collection, config)
        return
    built = build(model, collection, config, state)
    if state.is_main_process:
        for note in built.notes:
            print(note, file=sys.stderr)
        print(f"{built.added} images added, {built.removed} removed", file=sys.stderr)
        print(
            f"{built.images} images, {built.groups} groups of {config.proj_dim} in {config.output_dir}"
        )


def prepare(config: GradientsConfig, state: PartialState) -> tuple[DiffusionModel, Collection]:
    """Load model and collection, and look at every picture where that was asked for."""
    folder = Path(config.output_dir)
    left_out = layout_of(folder).left_out
    collection = load_collection(
        config.train_data_dir,
        replace(layout_in(config), left_out=left_out),
        read_stamps(folder),
    )
    device = config.device if state.num_processes == 1 else str(state.device)
    sizes = sizes_of(config.resolution) if config.resolution else ()
    size = sizes[0] if sizes else None
    name = config.pretrained_model_name_or_path
    if config.dry_run:
        largest = max(sizes, key=lambda each: each[0] * each[1], default=None)
        longest = max(collection.captions, key=len)
        said, fits = told(name, largest, way_of(config), device, longest)
        if not fits:
            raise InputError(said)
        if state.is_main_process:
            print(said)
    model = DiffusionModel.from_pretrained(name, device, size, config.precision, sizes[1:])
    model.only_when_needed = config.offload_encoders
    model.mixed_precision = config.mixed_precision
    model.pictures_at_once = config.batch_size  # in all steps that come after
    model.timesteps_at_once = config.timesteps_at_once
    if config.gradient_checkpointing:
        model.checkpoint_gradients()
    if config.dry_run or config.skip_broken:
        with bar("checking", "picture", state.is_main_process) as on_step:
            found = check_collection(collection, cuts(model), on_step, model.size_for)
        if state.is_main_process:
            print(*found.told(), sep="\n", end="\n" if any(found.told()) else "")
        if found.broken and config.skip_broken:
            collection = collection.without(found.broken)
    return model, collection


def way_of(config: GradientsConfig) -> Way:
    """Give the options that decide memory."""
    return Way(
        config.features(), config.batch_size, config.gradient_checkpointing, config.offload_encoders,
        config.timesteps_at_once, config.precision,
    )  # fmt: skip


def build(
    model: DiffusionModel, collection: Collection, config: GradientsConfig, state: PartialState
) -> Built:
    """Make the cache what the collection is now, and write down what it was made from."""
    folder = Path(config.output_dir)
    with bar("gradients", "image", state.is_main_process) as on_step:
        built = build_cache(model, collection, folder, config, on_step, state)
    if state.is_main_process:
        origin = Origin(config.pretrained_model_name_or_path, config.train_data_dir)
        write_origin(folder, origin)
    state.destroy_process_group()  # else a process that ends first may take the others with it
    return built


def build_part(model: DiffusionModel, collection: Collection, config: GradientsConfig) -> None:
    """Make a part of the shards, and say what is left."""
    with bar("gradients", "image", True) as on_step:
        part = part_named(config.part)
        made = make_part(model, collection, config.output_dir, config, part, on_step)
    left = (
        f"{made.others} shards of other parts are missing yet"
        if made.others
        else "all shards are there"
    )
    print(
        f"part {config.part}: {made.made} of {made.shards} shards made in {config.output_dir}; {left}, and the same "
        "command without --part closes the cache"
    )


def cuts(model: DiffusionModel) -> Callable[[str], bool]:
    """Tell which captions are longer than the model's tokenizer reads."""
    tokenizer = getattr(model.pipeline, "tokenizer", None)
    if tokenizer is None:
        return lambda _: False
    return lambda text: len(tokenizer(text, verbose=False).input_ids) > tokenizer.model_max_length


def dry_run(site: Site, state: PartialState) -> None:
    """Time one batch, and print what the step would take."""
    plan = site.plan()
    if not state.is_main_process:
        return
    rows = [row for _, some in plan.new for row in some][: site.config.batch_size]
    seconds, device = 0.0, site.extractor.model.device
    for _ in range(2 if rows else 0):  # the first warms up
        start = time.perf_counter()
        site.features(rows)
        seconds = (time.perf_counter() - start) / len(rows)
    disk, existing = site.disk_needed(plan.images), site.folder
    while not existing.exists():
        existing = existing.parent
    asked = " (with --remove)" if plan.removes_much else ""
    print(
        f"{plan.images} of {len(site.collection)} images to make, {len(plan.lost)} to remove{asked}: "
        f"about {plan.images * seconds / state.num_processes / 60:.1f} minutes at "
        f"{state.num_processes / seconds if seconds else 0:.1f} images a second in "
        f"{state.num_processes} process(es); {disk / 1e6:.1f} MB of disk in {site.folder}, "
        f"{shutil.disk_usage(existing).free / 1e9:.1f} GB free; {most_memory(device) / 1e9:.1f} GB of memory on {device}"
    )


def most_memory(device: torch.device) -> int:
    """Give the most bytes that were used so far, by this process or on its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1024 if sys.platform == "linux" else 1
    )
