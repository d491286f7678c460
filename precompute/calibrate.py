"""Learn what evidence there is for pictures that have nothing to do with the model.

In: a model, its collection and its cache. Out: `calibration.safetensors` in the cache folder, and `lists.safetensors` (lists.py).
Unrelated pictures are described by guessing, as an upload is, and go through the autoencoder; pictures that the model draws
are asked about a subject, a style and a background that they do not show. What was taken before is not taken again.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from attribution.answer.calibration import (
    Calibration,
    calibrated_by,
    calibrated_for,
    evidence_as_upload,
    evidence_unshown,
    phrases_not_shown,
    read_calibration,
    write_calibration,
)
from attribution.answer.queries import draw_queries
from attribution.answer.questions import GENERAL
from attribution.answer.roundtrip import trace
from attribution.attributor import Attributor
from attribution.cache.stamps import collection_of
from attribution.cache.store import loaded_as, open_cache
from attribution.cache.weights import FILE as WEIGHTS
from attribution.concepts import captioned, combinations
from attribution.errors import InputError
from attribution.files import ensure_writable, writing
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.progress import counted
from attribution.seeds import FIRST_SEED
from precompute.lists import calibrate_lists
from precompute.unrelated import draw_unrelated


@dataclass(frozen=True)
class CalibrateConfig:
    """What decides the nulls, besides model and collection."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    unrelated: int = 400  # pictures that have nothing to do with the collection
    draws: int = 320  # pictures that the model draws
    lists: int = 200  # pictures of each kind that lists are compared with; 0: none
    device: str = "cpu"
    follow_links: bool = False  # to pictures outside the collection's folder
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unrelated < 19 or self.draws < 19:
            raise InputError(
                "unrelated and draws must be at least 19, or no p-value can be 5 % or less"
            )
        if self.lists and self.lists < 20:
            raise InputError(f"lists is {self.lists}; it must be at least 20, or 0 for none")


def run(config: CalibrateConfig) -> None:
    """Take the evidence of both nulls and write it."""
    folder = Path(config.cache_dir)
    ensure_writable(folder)
    collection = collection_of(config.train_data_dir, folder, config.follow_links)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(folder)
    )
    calibrate(model, collection, folder, config)


def calibrate(
    model: DiffusionModel, collection: Collection, folder: Path, config: CalibrateConfig
) -> None:
    """Take the evidence of both nulls of a cache's model and write it."""
    collection = model.reads(collection)
    belongs_to = calibrated_for(model, collection.concepts, collection.sentence)
    known = earlier(folder, belongs_to, config)
    images, _ = draw_unrelated(
        config.unrelated, FIRST_SEED["calibration"] + config.seed, *model.sizes
    )
    if known is None:
        unrelated = of_unrelated(model, collection, images, config)
        known = Calibration(unrelated, of_own_draws(model, collection, config))
    if known.traces is None:
        traces = [
            trace(model, image)
            for image in counted(images, "traces of unrelated pictures", "picture")
        ]
        known = replace(known, traces=torch.tensor(traces))
    with writing(folder):
        write_calibration(folder, known, belongs_to, asdict(config))
    lists_of(model, collection, folder, config)


def lists_of(
    model: DiffusionModel, collection: Collection, folder: Path, config: CalibrateConfig
) -> None:
    """Take what lists are compared with, where there are weights to make lists with and words to leave out."""
    if not config.lists or not (folder / WEIGHTS).is_file():
        return
    cache = open_cache(folder, {"model": model.fingerprint, "collection": collection.fingerprint()})
    attributor = Attributor(model, collection, cache)
    if not attributor.extractor.rule.contrasts:
        calibrate_lists(attributor, config.lists, config.seed)


def earlier(
    folder: Path, belongs_to: dict[str, str], config: CalibrateConfig
) -> Calibration | None:
    """Read nulls that were taken before from as many pictures of the same seed; a file of an older program lacks some."""
    try:
        settings = calibrated_by(folder, belongs_to)
        wanted = {name: getattr(config, name) for name in ("unrelated", "draws", "seed")}
        same = wanted.items() <= settings.items()
        return read_calibration(folder, belongs_to) if same else None
    except InputError:  # of another model, or damaged: it is made anew
        return None


def of_unrelated(
    model: DiffusionModel,
    collection: Collection,
    images: list[Image.Image],
    config: CalibrateConfig,
) -> torch.Tensor:
    """Take the evidence of descriptions for unrelated pictures."""
    captions = captioned(collection, len(images), config.seed)
    pairs = zip(counted(images, "unrelated pictures", "picture"), captions, strict=True)
    found = [evidence_as_upload(model, collection, image, caption) for image, caption in pairs]
    return torch.tensor([each.get(GENERAL, 0.0) for each in found])  # no words, no evidence


def of_own_draws(
    model: DiffusionModel, collection: Collection, config: CalibrateConfig
) -> dict[str, torch.Tensor]:
    """Take the evidence of phrases for what the model's own pictures do not show."""
    if not collection.concepts:
        return {}
    wanted = combinations(collection, held_out=False, count=config.draws, seed=config.seed)
    queries = draw_queries(model, collection, wanted, "calibration")
    wrong = phrases_not_shown(collection, wanted, config.seed)
    rows = []
    for query, words in zip(counted(queries, "own draws", "picture"), wrong, strict=True):
        seen, shown = Encoded(model, [query.image]), collection.phrases(query.values)
        rows.append(evidence_unshown(seen, shown, words, collection.sentence))
    return {c: torch.tensor([row[c] for row in rows]) for c in collection.concepts}
