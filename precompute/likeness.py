"""Keep how training images look: to find copies of them, and to show plain likeness beside what the model learned.

In: a model, its collection and its cache. Out: the images' latents and thumbnails in the cache folder
(attribution/answer/likeness.py and thumbnails.py).
"""

from dataclasses import dataclass
from pathlib import Path

from attribution.answer.likeness import write_look_alikes
from attribution.answer.queries import encode
from attribution.answer.thumbnails import write_thumbnails
from attribution.cache.stamps import collection_of
from attribution.cache.store import loaded_as, open_cache
from attribution.files import ensure_writable, writing
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Collection


@dataclass(frozen=True)
class LikenessConfig:
    """Whose pictures are encoded, and by which model."""

    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    device: str = "cpu"
    follow_links: bool = False  # to pictures outside the collection's folder


def run(config: LikenessConfig) -> None:
    """Encode and shrink all training images, and write their latents and thumbnails."""
    folder = Path(config.cache_dir)
    ensure_writable(folder)
    collection = collection_of(config.train_data_dir, folder, config.follow_links)
    model = DiffusionModel.from_pretrained(
        config.pretrained_model_name_or_path, config.device, **loaded_as(folder)
    )
    keep_likeness(model, collection, folder)


def keep_likeness(model: DiffusionModel, collection: Collection, folder: Path) -> None:
    """Encode a cache's training images and write their latents."""
    fingerprints = {"model": model.fingerprint, "collection": collection.fingerprint()}
    open_cache(folder, fingerprints)
    latents = encode(model, collection).cpu()
    with writing(folder):
        write_look_alikes(folder, latents, collection, fingerprints)
        write_thumbnails(folder, collection, fingerprints, model.size_for)
