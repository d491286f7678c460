"""Put the library together: a picture in, ranked training images out.

In: a model folder, a cache folder and the collection that both were made from. Out: an `Answer`, which
ranks training images for any mix of concepts without touching a gradient again.
"""

import copy
import math
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image
from scipy.stats import binom
from torch import Tensor

from attribution.answer.answer import Answer, standardise
from attribution.answer.calibration import (
    Calibration,
    calibrated_for,
    described,
    evidence,
    p_value,
    read_calibration,
)
from attribution.answer.copies import Copy, find_in_any, whole_of
from attribution.answer.likeness import ADVICE, LookAlikes, read_look_alikes
from attribution.answer.listed import Listed
from attribution.answer.lists import FIRST, Lists, alikeness, read_lists
from attribution.answer.questions import GENERAL, WORDLESS, query_features
from attribution.answer.roundtrip import trace
from attribution.answer.thumbnails import Thumbnails, read_thumbnails
from attribution.cache.scoring import contributions, mean_feature, scores
from attribution.cache.search import Exact, Search
from attribution.cache.searches import search_named
from attribution.cache.stamps import collection_of
from attribution.cache.store import Cache, loaded_as, open_cache
from attribution.cache.weights import read_weights
from attribution.concepts import Phrases, full_prompt, named_in, recognise
from attribution.errors import InputError
from attribution.gradients.features import FeatureExtractor, unit
from attribution.gradients.kernel import apply_kernel
from attribution.looks.regions import Regions, find_regions
from attribution.models.diffusion import DiffusionModel, copy_of
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection, as_rgb, cropped
from attribution.pictures.hub import local_folder
from attribution.pictures.optout import Requests, Visible

AMONG, AGREE = (
    10,
    7,
)  # of the nearest training images, so many agree; chosen on pictures of no figure
BY_CHANCE = 0.01  # at most, had they been drawn at random


class Attributor:
    """A model, its collection, its cache and the learned weights, ready to answer."""

    def __init__(
        self,
        model: DiffusionModel,
        collection: Collection,
        cache: Cache,
        opt_out: str | Path | Requests | None = None,
        search: str = "exact",
    ) -> None:
        collection = model.reads(collection)
        self.model, self.collection, self.cache = model, collection, cache
        self.searched_by = search
        self.search: Search | None = search_named(search, cache)  # None: every image is scored
        shared = isinstance(opt_out, Requests)
        self.requests = (
            opt_out if shared else Requests(collection, Path(opt_out) if opt_out else None)
        )
        self.requests.read()  # refuses what cannot be read before anybody asks
        self.extractor = FeatureExtractor.of(model, cache.header, cache.folder)
        self.order = cache.order_in(collection.rows)
        self.calibration: Calibration | None = read_calibration(
            cache.folder, calibrated_for(model, collection.concepts, collection.sentence)
        )
        if self.calibration and self.calibration.unshown.keys() != collection.concepts.keys():
            raise InputError(
                f"{cache.folder}/calibration.safetensors is of other concepts; run python -m precompute calibrate"
            )
        self.lists: Lists | None = read_lists(cache)
        self.look_alikes: LookAlikes | None = read_look_alikes(
            cache.folder, collection, cache.header["fingerprints"], math.prod(model.latent_shape)
        )
        self.thumbnails: Thumbnails | None = read_thumbnails(
            cache.folder, collection, cache.header["fingerprints"]
        )
        self.weights = {k: v for k, v in read_weights(cache).items() if k != "equalised"}

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        cache: str | Path,
        collection: str | Path,
        device: str = "cpu",
        opt_out: str | Path | None = None,
        follow_links: bool = False,
        search: str = "exact",
    ) -> "Attributor":
        """Load all three, each from a folder or by its Hub id, and check that they belong together.

        `opt_out` names a list of who is not to be shown, else `opt_out.json` in the collection's folder is used.
        `follow_links` lets pictures be links to files outside that folder. `search` says who answers (cache/searches.py).
        """
        cache = local_folder(cache, "cache")
        loaded = DiffusionModel.from_pretrained(model, device, **loaded_as(cache))
        images = collection_of(collection, cache, follow_links)
        expected = {"model": loaded.fingerprint, "collection": images.fingerprint()}
        return cls(loaded, images, open_cache(cache, expected), opt_out, search)

    @property
    def method(self) -> str:
        """Name the base method of the cache."""
        return self.cache.header["method"]

    @property
    def visible(self) -> Visible:
        """Give the collection as it may be shown."""
        return Visible(self.collection, self.requests)

    def with_cache(self, folder: str | Path) -> "Attributor":
        """Answer by another cache (a folder or a Hub id) of the same model and collection."""
        fingerprints = self.cache.header["fingerprints"]
        cache = open_cache(local_folder(folder, "cache"), fingerprints)
        by = self.searched_by
        other = Attributor(self.model, self.collection, cache, self.requests, by)
        other.calibration = other.calibration or self.calibration  # neither knows a method
        other.look_alikes = other.look_alikes or self.look_alikes
        other.thumbnails = other.thumbnails or self.thumbnails
        return other

    def beside(self) -> "Attributor":
        """Give one that answers at the same time on another thread: the model's parameters and the cache are shared."""
        twin = copy.copy(self)
        twin.model = copy_of(self.model)
        twin.extractor = FeatureExtractor.of(twin.model, self.cache.header, self.cache.folder)
        return twin

    def contributions(
        self, queries: Float[Tensor, "query group dim"]
    ) -> Float[Tensor, "query group train"]:
        """Give the contributions of (kernelised) queries to every training image, in the collection's order."""
        found = contributions(queries, self.cache)
        return torch.empty_like(found).index_copy_(2, self.order, found)

    def summed(self, queries: Float[Tensor, "query group dim"]) -> Float[Tensor, "query train"]:
        """Give the scores of (weighted, kernelised) queries for every training image, in the collection's order."""
        found = scores(queries, self.cache)
        return torch.empty_like(found).index_copy_(1, self.order, found)

    def feature(self, row: int) -> Float[Tensor, "group dim"]:
        """Read one training image's features, by its row in the collection."""
        return self.cache.feature(int((self.order == row).nonzero()))

    @cached_property
    def places(self) -> Int[Tensor, "train"]:
        """Give the place in the cache of each row of the collection."""
        return self.order.argsort()

    @cached_property
    def mean_feature(self) -> Float[Tensor, "group dim"]:
        """Give the average training image's features, by one pass when first asked."""
        return mean_feature(self.cache)

    def alike(self, image: Image.Image) -> Float[Tensor, "train"]:
        """Say how alike every training image looks to a picture: the cosine of latents, no gradient."""
        if not self.look_alikes:
            raise InputError(f"{self.cache.folder} has no latents to compare; {ADVICE}")
        return self.look_alikes.alike(self.model.latents([image]).cpu())

    def copies(
        self, image: Image.Image, whole: Image.Image | None = None
    ) -> tuple[Copy, ...] | None:
        """Find the training images that a picture is or nearly copies; None where the cache has no thumbnails.

        Both count: what the model sees of it, and the `whole` (`whole_of` the picture, if not given) where it is of another
        shape.
        """
        if self.thumbnails is None:
            return None
        image, size = as_rgb(image), self.model.size_for(image)
        looks = [cropped(image, size), whole or whole_of(image, size)]
        hidden = self.requests.hidden().numpy()
        return tuple(find_in_any([look for look in looks if look], self.thumbnails, hidden))

    def drawn(self, image: Image.Image) -> float | None:
        """Give the p-value of a picture's trace: how many unrelated pictures look as much as if the model had drawn them.

        None where the cache has no calibration of it. Training pictures look so, too.
        """
        known = self.calibration.traces if self.calibration else None
        return None if known is None else p_value(known, trace(self.model, image))

    def describe(self, seen: Encoded, prompt: str) -> dict[str, str]:
        """Give each concept's phrase: from the prompt where it names one, else from the picture.

        What the nearest training images agree on is taken from them, and the rest from what explains the picture best.
        """
        named = named_in(prompt, self.collection.concepts)
        unnamed = {c: v for c, v in self.collection.concepts.items() if c not in named}
        named |= self.agreed(seen, unnamed)
        left = {c: v for c, v in unnamed.items() if c not in named}
        return (recognise(seen, left, self.collection.sentence, named) if left else {}) | named

    def agreed(self, seen: Encoded, concepts: Phrases) -> dict[str, str]:
        """Give the phrases of what most of the nearest training images show of each concept, as far as they agree.

        Nearest by the concept's weights, to the picture under no words.
        """
        known = [c for c in concepts if c in self.weights]
        if not known or self.extractor.rule.contrasts:  # the method asks by words alone
            return {}
        bare = apply_kernel(unit(self.extractor.query(seen, [""])), self.cache.kernel)
        weights, found = torch.stack([self.weights[concept] for concept in known]), {}
        nearest = self.nearest(bare * weights[..., None], AMONG).tolist()
        for concept, first in zip(known, nearest, strict=True):
            shown = Counter(self.collection.labels[row].get(concept) for row in first)
            [(value, times)] = shown.most_common(1)
            share = sum(row.get(concept) == value for row in self.collection.labels) / len(self.collection)  # fmt: skip
            rare = binom.sf(times - 1, len(first), share) <= BY_CHANCE
            if value in concepts[concept] and times >= AGREE and rare:
                found[concept] = concepts[concept][value]
        return found

    def nearest(
        self, asked: Float[Tensor, "query group dim"], count: int
    ) -> Int[Tensor, "query count"]:
        """Give the first training images of weighted, kernelised queries, withheld or not."""
        return self.order[(self.search or Exact(self.cache)).first(asked, count).places]

    def attribute(
        self, image: Image.Image, prompt: str = "", concepts: dict[str, str] | None = None
    ) -> Answer:
        """Score every training image for a picture, as a whole and for each concept.

        `concepts` gives phrases, such as {"subject": "a cat"}; those left out come from `describe`. The same
        picture and phrases give the same answer.
        """
        known = [name for name in self.collection.concepts if name in self.weights]
        if unknown := sorted({*(concepts or {})} - {*known}):
            raise InputError(
                f"no concept {', '.join(unknown)} has weights in this cache; give phrases for {', '.join(known) or 'none'}"
            )
        seen = Encoded(self.model, [image])
        phrases = self.describe(seen, prompt) | (concepts or {})
        phrases = {name: phrases[name] for name in known if name in phrases}
        whole = prompt or full_prompt(phrases, self.collection.sentence)
        answer = self.ask(seen, {GENERAL: whole} | phrases)
        return replace(answer, copies=self.copies(image), drawn=self.drawn(image))

    def ask(
        self,
        seen: Encoded,
        phrases: dict[str, str],
        weights: dict[str, Float[Tensor, "group"]] | None = None,
    ) -> Answer:
        """Score every training image for a picture under exactly these phrases, one for every question.

        `weights` are those of questions that the cache does not know.
        """
        questions = {name: [phrase] for name, phrase in phrases.items()}
        features = query_features(self.extractor, seen, questions, wordless=self.lists is not None)
        bare = features.pop(WORDLESS, None)
        asked = {n: apply_kernel(f, self.cache.kernel)[0] for n, f in features.items()}
        found = {}
        if self.calibration:
            known = {c: p for c, p in phrases.items() if c in self.collection.concepts}
            sentence = self.collection.sentence
            found = evidence(seen, described(known, phrases[GENERAL], sentence), sentence)
        answer = self.answer(asked, phrases, found, weights)
        if self.lists is None or bare is None:
            return answer
        return replace(
            answer,
            list_p_values=self.lists.p_values(
                self.alike_to_lists(answer.each_first(FIRST), features, bare)
            ),
        )

    def alike_to_lists(
        self,
        rows: dict[str, Int[Tensor, "ten"]],
        features: dict[str, Float[Tensor, "query group dim"]],
        bare: Float[Tensor, "query group dim"],
    ) -> dict[str, Float[Tensor, "part"]]:
        """Say how alike one picture is to the first training images of every question, withheld or not, by their `rows`.

        `features` and `bare`, those under no words, are before the kernel.
        """
        places = self.places[torch.cat([rows[name] for name in features])].tolist()
        tens = self.cache.features_at(places).split([len(rows[name]) for name in features])
        return {
            name: alikeness(torch.cat([feature, bare]), ten, self.cache.kernel)
            for (name, feature), ten in zip(features.items(), tens, strict=True)
        }

    def answer(
        self,
        asked: dict[str, Float[Tensor, "group dim"]],
        phrases: dict[str, str],
        found: dict[str, float],
        weights: dict[str, Float[Tensor, "group"]] | None = None,
    ) -> Answer:
        """Score every training image for questions whose kernelised features and evidence are known.

        `weights` are those of questions that the cache does not know.
        """
        used = {name: (self.weights | (weights or {}))[name] for name in asked}
        p_values = self.calibration.p_values(found) if self.calibration else {}
        about = self.collection, p_values, found, asked, used, self.requests
        return Answer(self.scores(asked, used), phrases, *about)

    def scores(
        self,
        asked: dict[str, Float[Tensor, "group dim"]],
        weights: dict[str, Float[Tensor, "group"]],
    ) -> dict[str, Float[Tensor, "train"]] | Listed:
        """Score every training image for kernelised questions, standardised, or hand them to the search."""
        vectors = {name: each * weights[name][:, None] for name, each in asked.items()}
        if self.search:
            return Listed.of(self.search, self.cache, self.order, vectors)
        found = standardise(self.summed(torch.stack(list(vectors.values()))))
        return dict(zip(asked, found, strict=True))

    def regions(self, image: Image.Image, answer: Answer) -> Regions:
        """Map where in a picture the evidence for each training image lies, under the answer's phrases."""
        if not self.model.family.maps:
            raise InputError(
                f"the answer has no maps: where the tokens of a {type(self.model.pipeline).__name__} lie in the "
                "picture is not known"
            )
        cells = find_regions(
            self.extractor, self.cache.kernel, self.search or Exact(self.cache), image,
            answer.phrases, answer.weights,
        )  # fmt: skip
        mean = self.mean_feature
        return Regions(
            cells, lambda rows: self.cache.features_at(self.places[rows].tolist()) - mean
        )
