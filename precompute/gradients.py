"""Cache the projected gradients of every training image, layer by layer, and fit the kernel.

In: a model folder and an image folder. Out: a cache folder that belongs to exactly these two. A run that was
stopped goes on where it was: shards that are whole are kept if their settings are the same. Methods with the
same objective (TRAK and TracIn) differ in the kernel alone, so that one's shards serve the other.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from attribution.collection import load_collection
from attribution.errors import InputError
from attribution.features import FeatureConfig, FeatureExtractor, unit
from attribution.kernel import fit_kernel
from attribution.methods import method_named
from attribution.model import DiffusionModel
from attribution.store import (
    finish,
    read_features,
    shard_path,
    write_shard,
    write_whole,
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
        default=FeatureConfig.parameters, metadata={"choices": ("weights", "all")}
    )
    damping: float = 1.0
    shard_size: int = 256
    batch_size: int = 8
    device: str = "cpu"
    seed: int = 0

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


def run(config: GradientsConfig) -> None:
    """Make the shards that are missing, fit the kernel on all, and close the cache."""
    collection = load_collection(config.train_data_dir, config.caption_column)
    model = DiffusionModel.from_pretrained(config.pretrained_model_name_or_path, config.device)
    extractor = FeatureExtractor(model, config.features())
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    belongs = {
        "features": asdict(config.features()),
        "shard_size": config.shard_size,
        "fingerprints": {"model": model.fingerprint, "collection": collection.fingerprint()},
    }
    _claim(folder, belongs)
    starts = range(0, len(collection), config.shard_size)
    bar = tqdm(total=len(collection), desc="gradients", unit="image")
    for index, start in enumerate(starts):
        rows = range(start, min(start + config.shard_size, len(collection)))
        if not shard_path(folder, index).is_file():
            features = []
            for first in range(rows.start, rows.stop, config.batch_size):
                batch = range(first, min(first + config.batch_size, rows.stop))
                images = [collection.image(i) for i in batch]
                features.append(
                    extractor(images, [collection.captions[i] for i in batch], len(batch))
                )
                bar.update(len(batch))
            write_shard(folder, index, torch.cat(features))
        else:
            bar.update(len(rows))
    bar.close()
    features = read_features(folder, [shard_path(folder, i).name for i in range(len(starts))])
    kernel = torch.eye(config.proj_dim).expand(features.shape[1], -1, -1)
    if method_named(config.method).kernel:
        kernel = fit_kernel(unit(features), config.damping)
    header = {"method": config.method, "damping": config.damping} | belongs
    header |= {"images": len(collection), "groups": extractor.groups}
    finish(folder, header, kernel, len(starts))
    print(
        f"{features.shape[0]} images, {features.shape[1]} groups of {features.shape[2]} in {folder}"
    )


def _claim(folder: Path, belongs: dict) -> None:
    """Note what unfinished shards belong to; refuse to mix them with others."""
    path = folder / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != belongs:
        found = json.loads(path.read_text())
        different = ", ".join(key for key in belongs if found.get(key) != belongs[key])
        raise InputError(
            f"{folder} holds features of other settings ({different}); remove it or choose another output_dir"
        )
    write_whole(path, json.dumps(belongs, indent=1) + "\n")
