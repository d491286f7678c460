"""Cache the projected gradients of every training image, layer by layer, and make the kernel.

In: a model folder and an image folder. Out: a cache folder that belongs to exactly these two. The same command
always makes the cache what the folder is now: a run that was stopped goes on where it was, images that are new
are added, images (or captions) that are gone are removed from disk and from the kernel's sums, and a damaged
shard is made anew. Where more than a tenth of the images would be removed, `--remove` must say that it is meant.
`accelerate launch -m precompute gradients ...` splits the work over processes and machines that share the output
folder. Methods whose training features are the same (TRAK, TracIn, Journey-TRAK and EK-FAC) differ in the kernel or
in their queries alone, so that one's shards serve the others.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor
from tqdm import tqdm

from attribution.cache.header import SHARD_NAME
from attribution.cache.kernel import fit_kernel
from attribution.cache.shards import (
    DTYPES,
    Form,
    Shard,
    bytes_of_row,
    describe_shard,
    gram_of,
    is_sound,
    number_of,
    rows_of_shard,
    shard_path,
    whole_rows,
    without,
    write_shard,
)
from attribution.cache.store import (
    clean,
    kernel_is_sound,
    listed_shards,
    read_header,
    read_kernel,
    write_header,
)
from attribution.errors import InputError
from attribution.files import load_tensors, read_json, write_whole, writing
from attribution.gradients.ekfac import layers_of
from attribution.gradients.features import FeatureConfig, FeatureExtractor
from attribution.gradients.methods import METHODS, method_named
from attribution.models.diffusion import PRECISIONS, DiffusionModel
from attribution.pictures.collection import Collection, Row, fingerprint_of, load_collection
from precompute.curvature import ensure_factors

REMOVED_UNASKED = 0.1  # of the images; more look like another collection's folder
SHOWN = 3  # names of images that would go


@dataclass(frozen=True)
class GradientsConfig:
    """What decides a cache, besides model and collection."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    caption_column: str = "text"
    output_dir: str = "assets/cache"
    method: str = field(
        default="d-trak", metadata={"help": f"of training data attribution: {', '.join(METHODS)}"}
    )
    timesteps: int = FeatureConfig.timesteps
    ranges: int = FeatureConfig.ranges
    proj_dim: int = FeatureConfig.proj_dim
    parameters: str = field(
        default=FeatureConfig.parameters,
        metadata={"choices": ("weights", "all"), "help": "all: biases and norms, too"},
    )
    damping: float = field(
        default=1.0, metadata={"help": "the kernel's strength; 0: the weights step chooses it"}
    )
    factor_images: int = field(
        default=256, metadata={"help": "on how many images EK-FAC estimates the curvature"}
    )
    dtype: str = field(
        default="float16", metadata={"choices": tuple(DTYPES), "help": "of the stored features"}
    )
    mixed_precision: str = field(default="no", metadata={"choices": PRECISIONS})
    gradient_checkpointing: bool = False
    shard_size: int = 256
    batch_size: int = 8
    device: str = "cpu"
    seed: int = 0
    remove: bool = field(
        default=False, metadata={"help": "even more than a tenth of the images that are there"}
    )
    dry_run: bool = field(
        default=False, metadata={"help": "print the time and the disk that it needs, and stop"}
    )

    def __post_init__(self) -> None:
        for name in ("shard_size", "batch_size", "factor_images"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above zero")
        if not 0 <= self.damping < float("inf"):
            raise InputError(
                f"damping is {self.damping}; it must be above zero, or 0 to have it chosen"
            )
        self.features()

    def features(self) -> FeatureConfig:
        """Give the part that decides a feature."""
        method = method_named(self.method)
        return FeatureConfig(
            method.objective,
            self.timesteps,
            self.ranges,
            self.proj_dim,
            self.parameters,
            self.seed,
            method.each_timestep,
            method.residual,
        )


@dataclass(frozen=True)
class Plan:
    """What is there and what is to be done."""

    kept: list[Shard]  # of the finished cache
    gone: dict[str, set[Row]]  # shard name -> rows to remove from it
    finished: list[str]  # shards that a stopped run left, whole
    new: list[tuple[int, list[int]]]  # shard number -> rows of the collection
    rebuild: bool  # a shard or the kernel was damaged, so that the Gram sum must be taken again
    stored: set[Row]  # whose features are there, also those of a stopped run
    lost: set[Row]  # of these, what the collection no longer has

    @property
    def removes_much(self) -> bool:
        """Tell whether more would go than goes unasked."""
        return len(self.lost) > REMOVED_UNASKED * len(self.stored)

    @property
    def images(self) -> int:
        """Count the images to be made."""
        return sum(len(rows) for _, rows in self.new)


def form_wanted(config: GradientsConfig, extractor: FeatureExtractor) -> Form:
    """Say what every shard should hold of a row."""
    return Form(len(extractor.groups), config.proj_dim, config.dtype)


def make_plan(folder: Path, collection: Collection, shard_size: int, form: Form) -> Plan:
    """Compare the folder with the collection; write nothing."""
    header = read_header(folder)
    listed = listed_shards(header) if header else []
    kept = [shard for shard in listed if is_sound(folder, shard, form)]
    rows = {shard.name: rows_of_shard(folder / shard.name) for shard in kept}
    times = Counter(row for some in rows.values() for row in some)
    # Nobody knows which of two shards that name the same image is right.
    kept = [shard for shard in kept if all(times[row] == 1 for row in rows[shard.name])]
    rebuild = len(kept) < len(listed) or (
        header is not None and not kernel_is_sound(folder, header)
    )
    wanted = set(collection.rows)
    present: set[Row] = set()
    stored: set[Row] = set()
    gone: dict[str, set[Row]] = {}
    for shard in kept:
        some = set(rows[shard.name])
        if some - wanted:
            gone[shard.name] = some - wanted
        present |= some & wanted
        stored |= some
    finished, names = [], {shard.name for shard in listed}
    next_number = header["next_number"] if header else 0
    for path in sorted(folder.glob("features-*.safetensors")):
        if path.name in names or not SHARD_NAME.fullmatch(path.name):
            continue
        some = set(whole_rows(path, form))
        if some and some <= wanted - present:
            finished.append(path.name)
            present |= some
        if number_of(path.name) >= next_number:  # else a run that was stopped had replaced it
            stored |= some
    missing = [i for i, row in enumerate(collection.rows) if row not in present]
    used = {number_of(name) for name in [*names, *finished]}
    free = (n for n in count(next_number) if n not in used)
    starts = range(0, len(missing), shard_size)
    new = [(number, missing[i : i + shard_size]) for i, number in zip(starts, free, strict=False)]
    return Plan(kept, gone, finished, new, rebuild, stored, stored - wanted)


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
    if method_named(config.method).kernel == "ekfac":
        layers_of(extractor.projector)  # refuses now what else it would refuse after days
    folder = Path(config.output_dir)
    if config.dry_run:
        dry_run(config, collection, extractor, state)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir {folder} cannot be made ({error}); choose another") from error
    with writing(folder) if state.is_main_process else nullcontext():
        plan = _shared(state, lambda: _prepare(config, collection, extractor))
        mine = plan.new[state.process_index :: state.num_processes]
        with tqdm(
            total=sum(len(rows) for _, rows in mine),
            desc="gradients",
            unit="image",
            disable=not state.is_main_process or not mine,
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
        if state.is_main_process and method_named(config.method).kernel == "ekfac":
            ensure_factors(folder, collection, extractor, config.factor_images)
        _finish(config, collection, extractor, plan, state)
    state.destroy_process_group()  # else a process that ends first may take the others with it
    if state.is_main_process:
        print(
            f"{len(collection)} images, {len(extractor.groups)} groups of {config.proj_dim} in {folder}"
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


def _prepare(config: GradientsConfig, collection: Collection, extractor: FeatureExtractor) -> Plan:
    """Check what the folder belongs to, remove what is gone, and plan the rest."""
    folder = Path(config.output_dir)
    belongs = _belongs(config, extractor)
    path, header = folder / "settings.json", read_header(folder)
    found = None
    if header:
        found = {key: header.get(key) for key in ("features", "dtype")}
        found["model"] = header["fingerprints"]["model"]
        if header["groups"] != extractor.groups:
            raise InputError(
                f"{folder}/header.json names other groups than the model has; remove {folder} and start again"
            )
    elif path.is_file():
        found = read_json(path, f"remove {folder} and start again")
    different = ", ".join(key for key in belongs if found and found.get(key) != belongs[key])
    if different:
        raise InputError(
            f"{folder} holds features of other settings ({different}); remove it or choose another output_dir"
        )
    plan = make_plan(folder, collection, config.shard_size, form_wanted(config, extractor))
    if plan.removes_much and not config.remove:
        names = ", ".join(sorted(row.file for row in plan.lost)[:SHOWN])
        raise InputError(
            f"{len(plan.lost)} of {len(plan.stored)} images in {folder} would be removed, as {config.train_data_dir} "
            f"lacks them or says something else of them ({names} ...); give --remove if that is meant, "
            "or another output_dir"
        )
    write_whole(path, json.dumps(belongs, indent=1) + "\n")
    rewritten = sum(shard.bytes for shard in plan.kept if shard.name in plan.gone)
    needed = disk_needed(config, extractor, plan.images) + rewritten
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} needs {needed / 1e9:.2f} GB more and its disk has {free / 1e9:.2f} GB free; "
            "free some space or choose another output_dir"
        )
    removed = sum(len(rows) for rows in plan.gone.values())
    if removed:  # before anything is added, which may take days
        _remove(config, folder, header, plan)
        plan = make_plan(folder, collection, config.shard_size, form_wanted(config, extractor))
    print(f"{plan.images} images to add, {removed} removed", file=sys.stderr)
    return plan


def _belongs(config: GradientsConfig, extractor: FeatureExtractor) -> dict:
    return {
        "features": config.features().recorded(),
        "dtype": config.dtype,
        "model": extractor.model.fingerprint,
    }


def _remove(config: GradientsConfig, folder: Path, header: dict, plan: Plan) -> None:
    """Write shards anew without the rows that are gone, and close the cache on what remains."""
    gram = None if plan.rebuild else read_kernel(folder, header)[0]
    used = {number_of(path.name) for path in folder.glob("features-*.safetensors")}
    free = (n for n in count(header["next_number"]) if n not in used)
    shards = []
    for shard in plan.kept:
        rest = shard
        if shard.name in plan.gone:
            rest, lost = without(folder, shard, plan.gone[shard.name], next(free))
            gram = None if gram is None else gram - lost
        shards += [rest] if rest else []
    if gram is None:
        shape = (len(header["groups"]), config.proj_dim, config.proj_dim)
        gram = sum_grams(folder, [shard.name for shard in shards], shape)
    rows = [row for shard in shards for row in rows_of_shard(folder / shard.name)]
    fingerprints = header["fingerprints"] | {"collection": fingerprint_of(rows)}
    _close(config, folder, header | {"fingerprints": fingerprints}, shards, gram)


def sum_grams(folder: Path, names: list[str], shape: tuple[int, int, int]) -> Tensor:
    """Sum f f^T over the rows of some shards, `[group, dim, dim]`."""
    gram = torch.zeros(shape, dtype=torch.float64)
    for name in names:
        gram += gram_of(load_tensors(folder / name)["features"])
    return gram


def _close(
    config: GradientsConfig, folder: Path, header: dict, shards: list[Shard], gram: Tensor
) -> None:
    """Make the kernel and write the header."""
    kernel = torch.eye(config.proj_dim).expand(len(gram), -1, -1).clone()
    damping = damping_of(config, header)
    if method_named(config.method).kernel == "block" and damping:
        images = max(1, sum(shard.rows for shard in shards))
        kernel = fit_kernel(gram, images, damping)
    if damping != header.get("damping"):
        header = {key: value for key, value in header.items() if key != "damping_losses"}
    about = {"method": config.method, "damping": damping}
    write_header(folder, header | about, shards, gram, kernel)


def damping_of(config: GradientsConfig, header: dict) -> float:
    """Give the strength that is asked for, or what the weights step chose for this method; 0: not chosen yet."""
    chosen = header.get("damping", 0.0) if header.get("method") == config.method else 0.0
    return config.damping or chosen


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
    plan = make_plan(folder, collection, config.shard_size, form_wanted(config, extractor))
    if not state.is_main_process:
        return
    rows = [row for _, some in plan.new for row in some][: config.batch_size]
    seconds = 0.0
    for _ in range(2 if rows else 0):  # the first warms up
        start = time.perf_counter()
        extractor(
            [collection.image(i) for i in rows], [collection.captions[i] for i in rows], len(rows)
        )
        seconds = (time.perf_counter() - start) / len(rows)
    disk, existing = disk_needed(config, extractor, plan.images), folder
    while not existing.exists():
        existing = existing.parent
    asked = " (with --remove)" if plan.removes_much else ""
    print(
        f"{plan.images} of {len(collection)} images to make, {len(plan.lost)} to remove{asked}: "
        f"about {plan.images * seconds / state.num_processes / 60:.1f} minutes at "
        f"{state.num_processes / seconds if seconds else 0:.1f} images a second in "
        f"{state.num_processes} process(es); {disk / 1e6:.1f} MB of disk in {folder}, "
        f"{shutil.disk_usage(existing).free / 1e9:.1f} GB free"
    )


def _finish(
    config: GradientsConfig,
    collection: Collection,
    extractor: FeatureExtractor,
    plan: Plan,
    state: PartialState,
) -> None:
    """Sum the Gram matrices over all processes, and let the main one write kernel and header."""
    folder = Path(config.output_dir)
    state.wait_for_everyone()
    added = [*plan.finished, *(shard_path(folder, number).name for number, _ in plan.new)]
    names = added + ([shard.name for shard in plan.kept] if plan.rebuild else [])
    shape = (len(extractor.groups), config.proj_dim, config.proj_dim)
    gram = sum_grams(folder, names[state.process_index :: state.num_processes], shape)
    if state.num_processes > 1:
        gram = reduce(gram.to(state.device), "sum").cpu()
    if state.is_main_process:
        header = read_header(folder) or {}
        shards = [*plan.kept, *(describe_shard(folder / name) for name in added)]
        rows = [row for shard in shards for row in rows_of_shard(folder / shard.name)]
        if fingerprint_of(rows) != collection.fingerprint():
            raise InputError(
                f"{config.train_data_dir} changed while its gradients were taken; run the same command again"
            )
        if header and not plan.rebuild:
            gram += read_kernel(folder, header)[0]
        belongs = _belongs(config, extractor)
        about = {
            "method": config.method,
            "damping": damping_of(config, header),
            "features": belongs["features"],
            "dtype": belongs["dtype"],
            "caption_column": config.caption_column,
            "fingerprints": {"model": belongs["model"], "collection": fingerprint_of(rows)},
            "groups": extractor.groups,
        }
        if added or plan.rebuild or any(header.get(key) != about[key] for key in about):
            _close(config, folder, header | about, shards, gram)
        else:  # nothing to do; a stopped run may have left files
            clean(folder, header)
    state.wait_for_everyone()
