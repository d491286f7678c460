"""Learn what evidence there is for pictures that have nothing to do with the model.

In: a model, its collection and its cache. Out: `calibration.safetensors` in the cache folder.
Unrelated pictures are described by guessing, as an upload is; pictures that the model draws are asked about a
subject, a style and a background that they do not show.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from attribution.answer.calibration import (
    Calibration,
    calibrated_for,
    evidence,
    evidence_as_upload,
    phrases_not_shown,
    write_calibration,
)
from attribution.answer.queries import draw_queries
from attribution.answer.questions import GENERAL
from attribution.cache.stamps import collection_of
from attribution.cache.store import resolution_of
from attribution.concepts import captioned, combinations
from attribution.errors import InputError
from attribution.files import ensure_writable, writing
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection
from attribution.progress import counted
from attribution.seeds import FIRST_SEED
from precompute.unrelated import draw_unrelated


@dataclass(frozen=True)
class CalibrateConfig:
    """What decides the nulls, besides model and collection."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    unrelated: int = 400  # pictures that have nothing to do with the collection
    draws: int = 320  # pictures that the model draws
    device: str = "cpu"
    follow_links: bool = False  # to pictures outside the collection's folder
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unrelated < 19 or self.draws < 19:
            raise InputError(
                "unrelated and draws must be at least 19, or no p-value can be 5 % or less"
            )


def run(config: CalibrateConfig) -> None:
    """Take the evidence of both nulls and write it."""
    folder = Path(config.cache_dir)
    ensure_writable(folder)
    collection = collection_of(config.train_data_dir, folder, config.follow_links)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, resolution_of(folder)
    )
    calibrate(model, collection, folder, config)


def calibrate(
    model: DiffusionModel, collection: Collection, folder: Path, config: CalibrateConfig
) -> None:
    """Take the evidence of both nulls of a cache's model and write it."""
    collection = model.reads(collection)
    seed = FIRST_SEED["calibration"] + config.seed
    images, _ = draw_unrelated(config.unrelated, seed, model.resolution)
    captions = captioned(collection, len(images), config.seed)
    found = [
        evidence_as_upload(model, collection, image, caption).get(
            GENERAL, 0.0
        )  # no words, no evidence
        for image, caption in zip(
            counted(images, "unrelated pictures", "picture"), captions, strict=True
        )
    ]
    unshown: dict[str, torch.Tensor] = {}
    if collection.concepts:
        wanted = combinations(collection, held_out=False, count=config.draws, seed=config.seed)
        queries = draw_queries(model, collection, wanted, "calibration")
        wrong = phrases_not_shown(collection, wanted, config.seed)
        rows = [
            evidence(Encoded(model, [query.image]), words)
            for query, words in zip(counted(queries, "own draws", "picture"), wrong, strict=True)
        ]
        unshown = {c: torch.tensor([row[c] for row in rows]) for c in collection.concepts}
    with writing(folder):
        write_calibration(
            folder,
            Calibration(torch.tensor(found), unshown),
            calibrated_for(model, collection.concepts),
            asdict(config),
        )
