"""Say what a cache is to be made of, and how its features are made.

In: a model, a collection, a folder and the settings. Out: a `Site`, which knows what every feature depends on, what is to
be done and what that takes. It writes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from attribution.cache.plan import Plan, make_plan
from attribution.cache.shards import DTYPES, Form, bytes_of_row
from attribution.errors import InputError
from attribution.gradients.ekfac import layers_of
from attribution.gradients.features import FeatureExtractor
from attribution.gradients.methods import METHODS, FeatureConfig, method_named
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded, in_order
from attribution.pictures.collection import Collection


@dataclass(frozen=True)
class CacheConfig:
    """What decides a cache, besides model and collection."""

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
    layers: str = field(
        default=FeatureConfig.layers,
        metadata={
            "help": "all, adapter (a LoRA's own), or a regular expression searched in their names"
        },
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
    shard_size: int = 256
    batch_size: int = 8
    timesteps_at_once: int = field(
        default=0,
        metadata={
            "help": "of a picture; fewer take less memory and more time; 0: all of a batch of pictures"
        },
    )
    seed: int = 0
    remove: bool = field(
        default=False, metadata={"help": "even more than a tenth of the images that are there"}
    )

    def __post_init__(self) -> None:
        for name in ("shard_size", "batch_size", "factor_images"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above zero")
        if self.timesteps_at_once < 0:
            raise InputError(
                f"timesteps_at_once is {self.timesteps_at_once}; it must be at least 1, or 0 for all"
            )
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
            self.layers,
            method.residual,
        )


@dataclass(frozen=True)
class Site:
    """A cache's folder, and what it is to be made of."""

    folder: Path
    collection: Collection
    extractor: FeatureExtractor
    config: CacheConfig

    @classmethod
    def of(
        cls, model: DiffusionModel, collection: Collection, folder: str | Path, config: CacheConfig
    ) -> "Site":
        """Draw the projections, and refuse at once what the method cannot do with this model."""
        if model.family.reads == "label" and not any(map(str.strip, collection.captions)):
            raise InputError(
                f"a {type(model.pipeline).__name__} reads a class, and no picture of {collection.folder} names one; give the "
                "column that does, as in --caption_column label (which folders of classes have, too)"
            )
        extractor = FeatureExtractor(model, config.features())
        extractor.at_once = config.timesteps_at_once
        if method_named(config.method).kernel.before_projection:
            layers_of(extractor.projector)
        return cls(Path(folder), collection, extractor, config)

    @property
    def form(self) -> Form:
        """Say what every shard should hold of a row."""
        return Form(len(self.extractor.groups), self.extractor.config.dim, self.config.dtype)

    @property
    def belongs_to(self) -> dict:
        """Say what every feature depends on."""
        return {
            "features": self.config.features().recorded(),
            "dtype": self.config.dtype,
            "model": self.extractor.model.fingerprint,
        }

    def plan(self, unlisted: bool = True) -> Plan:
        """Compare the folder with the collection; write nothing. `unlisted` counts what a stopped run left."""
        size = self.config.shard_size
        return make_plan(self.folder, self.collection, size, self.form, unlisted)

    def features(self, rows: list[int], on_batch: Callable[[int], None] | None = None) -> Tensor:
        """Make the features of some rows of the collection, a batch at a time; `on_batch` is told how many it has.

        All are encoded first, so that what encodes them can leave the device.
        """
        size, captions = self.config.batch_size, [self.collection.captions[i] for i in rows]
        seen = Encoded(self.extractor.model, [self.collection.image(i) for i in rows])
        batches = seen.batches(size)
        with self.extractor.model.encoding():
            for some in batches:
                seen.at(some).conditions([captions[i] for i in some])
        features = []
        for some in batches:
            features.append(self.extractor.train(seen.at(some), [captions[i] for i in some], size))
            if on_batch:
                on_batch(len(some))
        return in_order(features, batches)

    def disk_needed(self, images: int) -> int:
        """Give the bytes that new images and the kernel take."""
        groups, dim, dtype = self.form.groups, self.form.dim, self.form.dtype
        return images * (bytes_of_row(groups, dim, dtype) + 100) + groups * dim**2 * 12
