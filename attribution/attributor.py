"""Put the library together: a picture in, ranked training images out.

In: a model folder, a cache folder and the collection that both were made from. Out: an `Attribution`, which
ranks training images for any mix of concepts without touching a gradient again.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.calibration import (
    Calibration,
    calibrated_for,
    described,
    evidence,
    read_calibration,
)
from attribution.collection import Collection, load_collection
from attribution.concepts import named_in, recognise
from attribution.errors import InputError
from attribution.features import FeatureExtractor
from attribution.files import file_hash, hash_of, load_tensors, read_json
from attribution.kernel import apply_kernel
from attribution.model import DiffusionModel
from attribution.questions import GENERAL, query_features
from attribution.regions import Heat, Regions, find_regions
from attribution.scoring import contributions, top, weighted
from attribution.shares import Share, share_out
from attribution.store import Cache, caption_column, open_cache


@dataclass(frozen=True)
class Source:
    """One training image behind a picture."""

    rank: int  # from 1
    index: int  # row of the collection
    score: float  # standard deviations above the average training image
    file: str
    caption: str
    labels: dict[str, str]
    path: Path


@dataclass(frozen=True)
class Attribution:
    """The scores of one picture, kept by concept so that mixing them is instant."""

    scores: dict[str, Float[Tensor, "train"]]  # concept -> standardised scores
    phrases: dict[str, str]  # concept -> the phrase its gradient was taken under
    collection: Collection
    p_values: dict[str, float] = field(default_factory=dict)  # empty without a calibration

    def stands_out(self, level: float = 0.01, name: str = GENERAL) -> bool:
        """Tell whether there is evidence that the picture, or a concept of it, comes from this model's images."""
        if name not in self.p_values:
            raise InputError(
                f"no p-value for {name}; run python -m precompute calibrate for this cache"
            )
        return self.p_values[name] <= level

    def mix(self, **amounts: float | int) -> Float[Tensor, "train"]:
        """Mix standardised scores convexly; amounts need not sum to one."""
        unknown = set(amounts) - set(self.scores)
        if unknown:
            raise InputError(
                f"no scores for {', '.join(sorted(unknown))}; known: {', '.join(self.scores)}"
            )
        total = sum(amounts.values())
        if total <= 0 or any(not 0 <= a < float("inf") for a in amounts.values()):
            raise InputError("amounts must be at least zero, and one of them above zero")
        return sum(self.scores[name] * (amount / total) for name, amount in amounts.items())

    def rank(self, count: int = 10, **amounts: float | int) -> list[Source]:
        """Rank training images for a mix of concepts, the whole picture by default."""
        scores = self.mix(**(amounts or {GENERAL: 1.0}))
        collection = self.collection
        return [
            Source(
                place,
                index,
                float(scores[index]),
                collection.files[index],
                collection.captions[index],
                collection.labels[index],
                collection.folder / collection.files[index],
            )
            for place, index in enumerate(top(scores[None], count)[0].tolist(), 1)
        ]

    def artists(self, column: str = "artist", **amounts: float | int) -> list[Share]:
        """Share the positive influence of a mix among the values of a column, the largest first."""
        labels = self.collection.labels
        if not any(column in label for label in labels):
            raise InputError(
                f"the collection has no column {column!r}; add it to metadata.jsonl or name another"
            )
        names = [label.get(column, "unknown") for label in labels]
        return share_out(self.mix(**(amounts or {GENERAL: 1.0})), names)


def standardise(scores: Float[Tensor, "query train"]) -> Float[Tensor, "query train"]:
    """Express scores in standard deviations above the mean over the training images."""
    centred = scores - scores.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    if not (spread > 1e-6 * scores.abs().amax(1, keepdim=True)).all():  # NaN, too, ends here
        raise InputError(
            "every training image scores the same, so that none can be named; describe the picture in words, or "
            "make cache and weights again from more images"
        )
    return centred / spread


class Attributor:
    """A model, its collection, its cache and the learned weights, ready to answer."""

    def __init__(self, model: DiffusionModel, collection: Collection, cache: Cache) -> None:
        self.model, self.collection, self.cache = model, collection, cache
        self.extractor = FeatureExtractor.of(model, cache)
        if self.extractor.groups != cache.groups:
            raise InputError(
                f"the cache {cache.folder} has other groups than the model; make it again"
            )
        self.order = cache.order_in(collection.rows)
        self.calibration: Calibration | None = read_calibration(
            cache.folder, calibrated_for(model, collection.concepts)
        )
        self.weights = {k: v for k, v in read_weights(cache).items() if k != "equalised"}

    @classmethod
    def from_pretrained(
        cls, model: str | Path, cache: str | Path, collection: str | Path, device: str = "cpu"
    ) -> "Attributor":
        """Load all three and check that they belong together."""
        loaded = DiffusionModel.from_pretrained(model, device)
        images = load_collection(collection, caption_column(cache))
        expected = {"model": loaded.fingerprint, "collection": images.fingerprint()}
        return cls(loaded, images, open_cache(cache, expected))

    @property
    def method(self) -> str:
        """Name the base method of the cache."""
        return self.cache.header["method"]

    def with_cache(self, folder: str | Path) -> "Attributor":
        """Answer by another cache of the same model and collection, such as another method's."""
        fingerprints = self.cache.header["fingerprints"]
        other = Attributor(self.model, self.collection, open_cache(folder, fingerprints))
        other.calibration = other.calibration or self.calibration  # it knows no method
        return other

    def contributions(
        self, queries: Float[Tensor, "query group dim"]
    ) -> Float[Tensor, "query group train"]:
        """Give the contributions of queries to every training image, in the collection's order."""
        found = contributions(apply_kernel(queries, self.cache.kernel), self.cache)
        return torch.empty_like(found).index_copy_(2, self.order, found)

    def describe(self, image: Image.Image, prompt: str) -> dict[str, str]:
        """Give each concept's phrase: from the prompt where it names one, else from the picture."""
        named = named_in(prompt, self.collection.concepts)
        unnamed = {c: v for c, v in self.collection.concepts.items() if c not in named}
        return recognise(self.model, image, unnamed) | named if unnamed else named

    def attribute(
        self, image: Image.Image, prompt: str = "", concepts: dict[str, str] | None = None
    ) -> Attribution:
        """Score every training image for a picture, as a whole and for each concept.

        `concepts` gives phrases, such as {"subject": "a cat"}; those left out come from `describe`. The same
        picture and phrases give the same answer.
        """
        phrases = self.describe(image, prompt) | (concepts or {})
        known = [name for name in self.collection.concepts if name in self.weights]
        phrases = {name: phrases[name] for name in known if name in phrases}
        whole = prompt or ", ".join(phrases.values())
        questions = {GENERAL: [whole]} | {name: [phrase] for name, phrase in phrases.items()}
        features = query_features(self.extractor, [image], questions)
        scores = {
            name: standardise(weighted(self.contributions(query), self.weights[name]))[0]
            for name, query in features.items()
        }
        p_values = {}
        if self.calibration:
            words = described(phrases, prompt)
            p_values = self.calibration.p_values(evidence(self.model, image, words))
        return Attribution(scores, {GENERAL: whole} | phrases, self.collection, p_values)

    def regions(self, image: Image.Image, answer: Attribution) -> Regions:
        """Map where in a picture the evidence for each training image lies, under the answer's phrases."""
        found = find_regions(self.extractor, self.cache, image, answer.phrases, self.weights)
        place = self.order.argsort()  # row of the collection -> row of the cache
        return Regions({c: Heat(h.map[place], h.elsewhere[place]) for c, h in found.items()})


def read_weights(cache: Cache) -> dict[str, Float[Tensor, "group"]]:
    """Read the learned weights of a cache, each divided by the groups' scales, and `equalised` ones."""
    path = cache.folder / "weights.json"
    if not path.is_file():
        raise InputError(f"{cache.folder} has no weights; run python -m precompute weights")
    advice = "run python -m precompute weights"
    header, tensors_path = read_json(path, advice), cache.folder / "weights.safetensors"
    if header.get("belongs_to") != belongs_to(cache):
        raise InputError(f"the weights in {cache.folder} are of another cache; {advice}")
    if not tensors_path.is_file() or file_hash(tensors_path) != header.get("checksum"):
        raise InputError(f"{tensors_path} is missing or damaged; {advice}")
    tensors = load_tensors(tensors_path)
    scales = tensors.pop("scales")
    return {"equalised": 1 / scales} | {name: weights / scales for name, weights in tensors.items()}


def belongs_to(cache: Cache) -> dict:
    """Say what weights depend on: images may come and go, model, features and method may not."""
    kept = {key: cache.header[key] for key in ("method", "damping", "features", "groups")}
    kept["groups"] = hash_of(kept["groups"])
    return kept | {"model": cache.header["fingerprints"]["model"]}
