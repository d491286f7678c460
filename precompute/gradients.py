"""Cache the projected gradients of every training image, layer by layer, and make the kernel.

In: a model folder and an image folder. Out: a cache folder that belongs to exactly these two. The same command
always makes the cache what the folder is now: a run that was stopped goes on where it was, images that are new
are added, images (or captions) that are gone are removed from disk and from the kernel's sums, and a damaged
shard is made anew. `accelerate launch -m precompute gradients ...` splits the work over processes and machines
that share the output folder. Methods with the same objective (TRAK and TracIn) differ in the kernel alone, so
that one's shards serve the other.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from tqdm import tqdm

from attribution.collection import Collection, Row, fingerprint_of, load_collection
from attribution.errors import InputError
from attribution.features import FeatureConfig, FeatureExtractor
from attribution.kernel import fit_kernel
from attribution.methods import method_named
from attribution.model import PRECISIONS, DiffusionModel
from attribution.store import (
    DTYPES,
    Shard,
    bytes_of_row,
    describe_shard,
    gram_of,
    holds,
    is_sound,
    listed_shards,
    load_tensors,
    read_header,
    read_kernel,
    rows_of_shard,
    shard_path,
    without,
    write_header,
    write_shard,
    write_whole,
    writing,
)


@dataclass(frozen=True)
class GradientsConfig:
    """What decides a cache, besides model and collection."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    caption_column: str = "text"
    output_dir: str = "assets/cache"
    method: str = "d-trak"
    timesteps: int = FeatureConfig.timesteps
    ranges: int = FeatureConfig.ranges
    proj_dim: int = FeatureConfig.proj_dim
    parameters: str = field(
        default=FeatureConfig.parameters,
        metadata={"choices": ("weights", "all"), "help": "all: biases and norms, too"},
    )
    damping: float = 1.0
    dtype: str = field(
        default="float16", metadata={"choices": tuple(DTYPES), "help": "of the stored features"}
    )
    mixed_precision: str = field(default="no", metadata={"choices": PRECISIONS})
    gradient_checkpointing: bool = False
    shard_size: int = 256
    batch_size: int = 8
    device: str = "cpu"
    seed: int = 0
    dry_run: bool = field(
        default=False, metadata={"help": "print the time and the disk that it needs, and stop"}
    )

    def __post_init__(self) -> None:
        for name in ("shard_size", "batch_size", "damping"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above zero")
        self.features()

    def features(self) -> FeatureConfig:
        """Give the part that decides a feature."""
        return FeatureConfig(
            method_named(self.method).objective,
            self.timesteps,
            self.ranges,
            self.proj_dim,
            self.parameters,
            self.seed,
        )


@dataclass(frozen=True)
class Plan:
    """What is there and what is to be done."""

    kept: list[Shard]  # of the finished cache, untouched
    gone: dict[str, set[Row]]  # shard name -> rows to remove from it
    new: list[tuple[int, list[int]]]  # shard number -> rows of the collection
    pending: list[int]  # places in `new` that no stopped run has finished
    rebuild: bool  # a shard was damaged, so that the Gram sum must be taken again

    def images(self, pending: bool = True) -> int:
        """Count the images to be made, or all that are new."""
        return sum(
            len(rows) for i, (_, rows) in enumerate(self.new) if not pending or i in self.pending
        )


def make_plan(folder: Path, collection: Collection, shard_size: int) -> Plan:
    """Compare the folder with the collection; write nothing."""
    header = read_header(folder)
    listed = listed_shards(header) if header else []
    sound = [shard for shard in listed if is_sound(folder, shard)]
    wanted = set(collection.rows)
    present: set[Row] = set()
    gone: dict[str, set[Row]] = {}
    for shard in sound:
        rows = set(rows_of_shard(folder / shard.name))
        if rows - wanted:
            gone[shard.name] = rows - wanted
        present |= rows & wanted
    missing = [i for i, row in enumerate(collection.rows) if row not in present]
    # Numbers go on after those listed and those that shards without the removed rows will take.
    first = max((shard.number for shard in listed), default=-1) + 1 + len(gone)
    new = [
        (first + place, missing[start : start + shard_size])
        for place, start in enumerate(range(0, len(missing), shard_size))
    ]
    pending = [
        place
        for place, (number, rows) in enumerate(new)
        if not holds(shard_path(folder, number), [collection.rows[i] for i in rows])
    ]
    kept = [shard for shard in sound if shard.name not in gone]
    return Plan(kept, gone, new, pending, rebuild=len(sound) < len(listed))


def run(config: GradientsConfig) -> None:
    """Make what is missing, remove what is gone, and close the cache."""
    state = PartialState(cpu=config.device == "cpu")
    collection = load_collection(config.train_data_dir, config.caption_column)
    device = config.device if state.num_processes == 1 else str(state.device)
    model = DiffusionModel.from_pretrained(config.pretrained_model_name_or_path, device)
    model.mixed_precision = config.mixed_precision
    if config.gradient_checkpointing:
        model.checkpoint_gradients()
    extractor = FeatureExtractor(model, config.features())
    folder = Path(config.output_dir)
    if config.dry_run:
        dry_run(config, collection, extractor, state)
        return
    folder.mkdir(parents=True, exist_ok=True)
    belongs = {
        "features": asdict(config.features()),
        "dtype": config.dtype,
        "model": model.fingerprint,
    }
    with writing(folder) if state.is_main_process else nullcontext():
        plan = _shared(state, lambda: _prepare(config, collection, extractor, belongs))
        mine = [
            plan.new[place] for place in plan.pending[state.process_index :: state.num_processes]
        ]
        with tqdm(
            total=sum(len(rows) for _, rows in mine),
            desc="gradients",
            unit="image",
            disable=not state.is_main_process,
        ) as bar:
            for number, rows in mine:
                features = []
                for first in range(0, len(rows), config.batch_size):
                    batch = rows[first : first + config.batch_size]
                    images = [collection.image(i) for i in batch]
                    captions = [collection.captions[i] for i in batch]
                    features.append(extractor(images, captions, len(batch)))
                    bar.update(len(batch))
                row_ids = [collection.rows[i] for i in rows]
                write_shard(folder, number, row_ids, torch.cat(features), config.dtype)
        _finish(config, collection, extractor, plan, belongs, state)
    if state.is_main_process:
        added, removed = plan.images(pending=False), sum(len(rows) for rows in plan.gone.values())
        print(
            f"{len(collection)} images ({added} added, {removed} removed), "
            f"{len(extractor.groups)} groups of {config.proj_dim} in {folder}"
        )


def _shared(state: PartialState, make: Callable[[], Plan]) -> Plan:
    """Make the plan in the main process and hand it, or the reason why there is none, to all."""
    found: list = [None]
    if state.is_main_process:
        try:
            found = [make()]
        except InputError as error:
            found = [error]
    if state.num_processes > 1:
        broadcast_object_list(found)
    if isinstance(found[0], InputError):
        raise found[0]
    return found[0]


def _prepare(
    config: GradientsConfig, collection: Collection, extractor: FeatureExtractor, belongs: dict
) -> Plan:
    """Check what the folder belongs to and that the disk will do, and plan."""
    folder = Path(config.output_dir)
    path = folder / "settings.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is damaged; remove {folder} and start again") from error
        different = ", ".join(key for key in belongs if found.get(key) != belongs[key])
        if different:
            raise InputError(
                f"{folder} holds features of other settings ({different}); remove it or choose another output_dir"
            )
    write_whole(path, json.dumps(belongs, indent=1) + "\n")
    plan = make_plan(folder, collection, config.shard_size)
    needed = disk_needed(config, extractor, plan.images())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} needs {needed / 1e9:.2f} GB more and its disk has {free / 1e9:.2f} GB free; "
            "free some space or choose another output_dir"
        )
    return plan


def disk_needed(config: GradientsConfig, extractor: FeatureExtractor, images: int) -> int:
    """Give the bytes that new images and the kernel take."""
    groups, dim = len(extractor.groups), config.proj_dim
    return images * (bytes_of_row(groups, dim, config.dtype) + 100) + groups * dim**2 * 12


def dry_run(
    config: GradientsConfig,
    collection: Collection,
    extractor: FeatureExtractor,
    state: PartialState,
) -> None:
    """Time one batch, and print what the step would take."""
    folder = Path(config.output_dir)
    plan = make_plan(folder, collection, config.shard_size)
    if not state.is_main_process:
        return
    rows = [row for place in plan.pending for row in plan.new[place][1]][: config.batch_size]
    seconds = 0.0
    for _ in range(2 if rows else 0):  # the first warms up
        start = time.perf_counter()
        extractor(
            [collection.image(i) for i in rows], [collection.captions[i] for i in rows], len(rows)
        )
        seconds = (time.perf_counter() - start) / len(rows)
    count = plan.images()
    disk, existing = disk_needed(config, extractor, count), folder
    while not existing.exists():
        existing = existing.parent
    print(
        f"{count} of {len(collection)} images to make, {sum(len(r) for r in plan.gone.values())} to remove: "
        f"about {count * seconds / state.num_processes / 60:.1f} minutes at "
        f"{state.num_processes / seconds if seconds else 0:.1f} images a second in "
        f"{state.num_processes} process(es); {disk / 1e6:.1f} MB of disk in {folder}, "
        f"{shutil.disk_usage(existing).free / 1e9:.1f} GB free"
    )


def _finish(
    config: GradientsConfig,
    collection: Collection,
    extractor: FeatureExtractor,
    plan: Plan,
    belongs: dict,
    state: PartialState,
) -> None:
    """Sum the Gram matrices over all processes, and let the main one write kernel and header."""
    folder = Path(config.output_dir)
    state.wait_for_everyone()
    shape = (len(extractor.groups), config.proj_dim, config.proj_dim)
    gram = torch.zeros(shape, dtype=torch.float64)
    names = [shard_path(folder, number).name for number, _ in plan.new]
    if plan.rebuild:
        names += [shard.name for shard in plan.kept]
    for name in names[state.process_index :: state.num_processes]:
        gram += gram_of(load_tensors(folder / name)["features"])
    if state.num_processes > 1:
        gram = reduce(gram.to(state.device), "sum").cpu()
    if not state.is_main_process:
        state.wait_for_everyone()
        return
    header = read_header(folder) or {}
    if header and not plan.rebuild:
        gram += read_kernel(folder, header)[0]
    shards = list(plan.kept)
    for place, (name, rows) in enumerate(plan.gone.items()):
        shard = next(s for s in listed_shards(header) if s.name == name)
        number = max(s.number for s in listed_shards(header)) + 1 + place
        rest, lost, kept = without(folder, shard, rows, number)
        gram = gram + kept if plan.rebuild else gram - lost
        shards += [rest] if rest else []
    shards += [describe_shard(shard_path(folder, number)) for number, _ in plan.new]
    kernel = torch.eye(config.proj_dim).expand(*shape).clone()
    if method_named(config.method).kernel:
        kernel = fit_kernel(gram, len(collection), config.damping)
    here = [row for shard in shards for row in rows_of_shard(folder / shard.name)]
    if fingerprint_of(here) != collection.fingerprint():
        raise InputError(
            f"{config.train_data_dir} changed while its gradients were taken; run the same command again"
        )
    write_header(
        folder,
        {
            "revision": header.get("revision", 0),
            "method": config.method,
            "damping": config.damping,
            "features": belongs["features"],
            "dtype": belongs["dtype"],
            "fingerprints": {"model": belongs["model"], "collection": collection.fingerprint()},
            "groups": extractor.groups,
        },
        shards,
        gram,
        kernel,
    )
    state.wait_for_everyone()
