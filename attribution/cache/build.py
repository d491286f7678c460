"""Make a cache: the projected gradients of every training image, layer by layer, and the kernel.

In: a model, a collection and a folder. Out: the folder holds a cache that belongs to exactly these two. The same call
always makes the cache what the collection is now: what was stopped goes on where it was, images that are new are
added, images (or captions) that are gone are removed from disk and from the kernel's sums, and a damaged shard is made
anew. The processes of an `accelerate launch` split the work where they share the folder.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch import Tensor

from attribution.cache.header import form_of, listed_shards, read_header, recorded
from attribution.cache.origin import read_origin
from attribution.cache.plan import Plan
from attribution.cache.shards import (
    Form,
    Shard,
    describe_shard,
    gram_of,
    is_sound,
    number_of,
    rows_of_shard,
    shard_path,
    without,
    write_shard,
)
from attribution.cache.site import CacheConfig, Site
from attribution.cache.stamps import write_stamps
from attribution.cache.store import clean, kernel_is_sound, read_kernel, write_header
from attribution.errors import InputError
from attribution.files import load_tensors, read_json, write_whole, writing
from attribution.gradients.curvature import ensure_factors
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.kernel import identity
from attribution.gradients.methods import method_named
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection, fingerprint_of
from attribution.pictures.layout import Layout
from attribution.pictures.size import written
from attribution.progress import OnStep

SHOWN = 3  # names of images that would go
SIZES_APART = (
    "this method favours pictures of a query's own size, and several sizes were given; d-trak does so less "
    "(docs/method.md, several sizes)"
)


@dataclass(frozen=True)
class Built:
    """What a cache holds, and how many images came and went."""

    images: int
    groups: int
    added: int
    removed: int
    notes: tuple[str, ...] = ()  # what has no gradient, in sentences


def build_cache(
    model: DiffusionModel,
    collection: Collection,
    folder: str | Path,
    config: CacheConfig,
    on_step: OnStep | None = None,
    state: PartialState | None = None,
) -> Built:
    """Make what is missing, remove what is gone, and close the cache.

    `on_step(done, total)` counts this process's images: those whose features it makes, then, for EK-FAC, those that
    the curvature is estimated on. `state` is accelerate's, else one is made for the model's device.
    """
    site = Site.of(model, collection, folder, config)
    state = state or PartialState(cpu=model.device.type == "cpu")
    try:
        site.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output_dir {folder} cannot be made ({error}); choose another") from error
    with writing(site.folder) if state.is_main_process else nullcontext():
        plan, removed = _shared(state, lambda: _prepare(site))
        make_shards(site, plan.new[state.process_index :: state.num_processes], on_step)
        if state.is_main_process and method_named(config.method).kernel.before_projection:
            ensure_factors(site.folder, collection, site.extractor, config.factor_images, on_step)
        _finish(site, plan, state)
        if state.is_main_process:
            write_stamps(site.folder, collection)
    notes = _notes(site.extractor, some=plan.images > 0)
    return Built(len(collection), len(site.extractor.groups), plan.images, removed, notes)


def _notes(extractor: FeatureExtractor, some: bool) -> tuple[str, ...]:
    """Name once what no gradient is taken of and, if there were images, what had none for any of them."""
    projector = extractor.projector
    told = {
        "no gradient is taken of": projector.left_out,
        "never called, or without a gradient for every image made here:": (
            projector.silent if some else []
        ),
    }
    named = tuple(
        f"{words} {', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''} ({len(names)})"
        for words, names in told.items()
        if names
    )
    if len(extractor.model.sizes) > 1 and extractor.config.paired:
        return *named, SIZES_APART
    return named


def _shared(state: PartialState, make: Callable[[], tuple[Plan, int]]) -> tuple[Plan, int]:
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


def _prepare(site: Site) -> tuple[Plan, int]:
    """Check what the folder belongs to, remove what is gone, and plan the rest; count what was removed."""
    folder, config = site.folder, site.config
    header = read_header(folder)
    check_settings(site)
    plan = site.plan()
    if plan.removes_much and not config.remove:
        names = ", ".join(sorted(row.file for row in plan.lost)[:SHOWN])
        raise InputError(
            f"{len(plan.lost)} of {len(plan.stored)} images in {folder} would be removed, as {site.collection.folder} "
            f"lacks them or says something else of them ({names} ...); give --remove if that is meant, "
            "or another output_dir"
        )
    rewritten = sum(shard.bytes for shard in plan.kept if shard.name in plan.gone)
    needed = site.disk_needed(plan.images) + rewritten
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} needs {needed / 1e9:.2f} GB more and its disk has {free / 1e9:.2f} GB free; "
            "free some space or choose another output_dir"
        )
    removed = sum(len(rows) for rows in plan.gone.values())
    if removed:  # before anything is added, which may take days
        _remove(folder, header, plan)
        plan = site.plan()
    return plan, removed


def check_settings(site: Site) -> None:
    """Refuse a folder, finished or not, whose features are of another kind, and note of which they are."""
    folder, belongs_to, found = site.folder, site.belongs_to, None
    header = read_header(folder)
    path = folder / "settings.json"
    if header:
        found = {key: header.get(key) for key in ("features", "dtype")}
        found["model"] = header["fingerprints"]["model"]
        if header["groups"] != site.extractor.groups:
            raise InputError(
                f"{folder}/header.json names other groups than the model has; remove {folder} and start again"
            )
    elif path.is_file():
        found = read_json(path, f"remove {folder} and start again")
    different = ", ".join(key for key in belongs_to if found and found.get(key) != belongs_to[key])
    if different:
        made_by = _made_by(folder) if "model" in different else ""
        raise InputError(
            f"{folder} holds features of other settings ({different}){made_by}; give the same again, or choose "
            "another output_dir"
        )
    write_whole(path, json.dumps(belongs_to, indent=1) + "\n")


def _made_by(folder: Path) -> str:
    """Name the options that a cache was made with, which whoever goes on with it may have forgotten."""
    header, origin = read_header(folder) or {}, read_origin(folder)
    options = {
        "pretrained_model_name_or_path": origin.model if origin else "",
        "resolution": header.get("resolution", ""),
        "precision": header.get("precision", ""),
    }
    given = " ".join(f"--{name} {value}" for name, value in options.items() if value)
    return f", made by {given}" if given else ""


def remove_images(folder: Path, files: set[str], layout: Layout) -> int:
    """Remove images by their files, whether the collection still has them or not, and count them.

    The cache remembers by `layout` that they are left out, so that no later run brings them back.
    """
    with writing(folder):
        header = read_header(folder)
        if header is None:
            raise InputError(f"{folder} holds no finished cache; check the path")
        listed, form = listed_shards(header), form_of(header)
        kept = [shard for shard in listed if is_sound(folder, shard, form)]
        rows = {shard.name: set(rows_of_shard(folder / shard.name)) for shard in kept}
        gone = {name: {row for row in some if row.file in files} for name, some in rows.items()}
        gone = {name: some for name, some in gone.items() if some}
        lost = set().union(*gone.values())
        if len(lost) == header["images"]:
            raise InputError(f"these are all images of {folder}; remove the folder instead")
        rebuild = len(kept) < len(listed) or not kernel_is_sound(folder, header)
        plan = Plan(kept, gone, [], [], rebuild, set().union(*rows.values()), lost)
        said = {key: value for key, value in header.items() if key != "layout"}
        _remove(folder, said | recorded(layout), plan)
    return len(lost)


def _remove(folder: Path, header: dict, plan: Plan) -> None:
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
        gram = _sum_grams(folder, [shard.name for shard in shards], form_of(header))
    rows = [row for shard in shards for row in rows_of_shard(folder / shard.name)]
    fingerprints = header["fingerprints"] | {"collection": fingerprint_of(rows)}
    _close(folder, header | {"fingerprints": fingerprints}, shards, gram)


def make_shards(site: Site, new: list[tuple[int, list[int]]], on_step: OnStep | None) -> None:
    """Make the features of every new shard, some images at a time."""
    done, total = 0, sum(len(rows) for _, rows in new)

    def counted(images: int) -> None:
        nonlocal done
        done += images
        if on_step:
            on_step(done, total)

    for number, rows in new:
        features = site.features(rows, counted)
        row_ids = [site.collection.rows[i] for i in rows]
        write_shard(site.folder, number, row_ids, features, site.config.dtype)


def _finish(site: Site, plan: Plan, state: PartialState) -> None:
    """Sum the Gram matrices over all processes, and let the main one write kernel and header."""
    folder, config = site.folder, site.config
    state.wait_for_everyone()
    added = [*plan.finished, *(shard_path(folder, number).name for number, _ in plan.new)]
    names = added + ([shard.name for shard in plan.kept] if plan.rebuild else [])
    gram = _sum_grams(folder, names[state.process_index :: state.num_processes], site.form)
    if state.num_processes > 1:
        gram = reduce(gram.to(state.device), "sum").cpu()
    if state.is_main_process:
        header = read_header(folder) or {}
        shards = [*plan.kept, *(describe_shard(folder / name) for name in added)]
        rows = [row for shard in shards for row in rows_of_shard(folder / shard.name)]
        if fingerprint_of(rows) != site.collection.fingerprint():
            raise InputError(
                f"{site.collection.folder} changed while its gradients were taken; run the same command again"
            )
        if header and not plan.rebuild:
            gram += read_kernel(folder, header)[0]
        belongs_to = site.belongs_to
        about = {
            "method": config.method,
            "damping": _damping_of(config, header),
            "features": belongs_to["features"],
            "dtype": belongs_to["dtype"],
            **recorded(site.collection.layout),
            "fingerprints": {"model": belongs_to["model"], "collection": fingerprint_of(rows)},
            "groups": site.extractor.groups,
        }
        model = site.extractor.model
        if model.asked_size:
            about["resolution"] = written(*model.sizes)
        if model.precision != "fp32":
            about["precision"] = model.precision
        changed = any(header.get(key) != about.get(key) for key in (*about, "layout"))
        if added or plan.rebuild or changed:
            _close(folder, _kept(header, about["damping"]) | about, shards, gram)
        else:  # nothing to do; a stopped run may have left files
            clean(folder, header)
    state.wait_for_everyone()


def _sum_grams(folder: Path, names: list[str], form: Form) -> Tensor:
    """Sum f f^T over the rows of some shards, `[group, dim, dim]`."""
    gram = torch.zeros(form.groups, form.dim, form.dim, dtype=torch.float64)
    for name in names:
        gram += gram_of(load_tensors(folder / name)["features"])
    return gram


def _close(folder: Path, header: dict, shards: list[Shard], gram: Tensor) -> None:
    """Make the kernel and write the header."""
    damping = header["damping"]
    fit = method_named(header["method"]).kernel.fit if damping else identity
    kernel = fit(gram, max(1, sum(shard.rows for shard in shards)), damping)
    write_header(folder, header, shards, gram, kernel)


def _kept(header: dict, damping: float) -> dict:
    """Give what stays true of a cache of another layout, and perhaps of another damping."""
    gone = {"layout"} if damping == header.get("damping") else {"layout", "damping_losses"}
    return {key: value for key, value in header.items() if key not in gone}


def _damping_of(config: CacheConfig, header: dict) -> float:
    """Give the strength that is asked for, or what was chosen for this method; 0: not chosen yet."""
    chosen = header.get("damping", 0.0) if header.get("method") == config.method else 0.0
    return config.damping or chosen
