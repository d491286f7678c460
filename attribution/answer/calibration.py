"""Say how often a picture that has nothing to do with the model would look as well explained: a p-value.

The evidence of words for a picture is how much they help the model to denoise it:

    e(x, words) = mean over noise of log( loss(x | no words) / loss(x | words) )

It is near zero or below where the model does not find in the picture what the words name. The whole is asked in the
sentence that all phrases make; a concept by what its phrase adds to the sentence without it, since a model that learned
from sentences may not know a phrase that stands alone. A conformal p-value compares it
with the same number for pictures of a null, p = (1 + #{null >= e}) / (n + 1): if the picture is one more of the
null's kind, p <= level happens at most so often (Vovk, Gammerman and Shafer 2005, ch. 2). A concept must pass two
nulls, and its p-value is the larger: the whole description against unrelated pictures, and the concept's phrase
against phrases for what the model's own pictures do not show. Whether the model drew the picture is asked
without words: its trace (roundtrip.py) is compared with that of unrelated pictures. In: a model, a picture, phrases. It
knows no score.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from attribution.answer.questions import GENERAL
from attribution.answer.wordless import known_as_it_is
from attribution.concepts import Phrases, denoising_losses, full_prompt, recognise
from attribution.described import read_about, read_described, write_described
from attribution.errors import InputError
from attribution.files import Wanted, hash_of
from attribution.models.diffusion import DiffusionModel
from attribution.models.encoded import Encoded
from attribution.pictures.collection import Collection

FILE = "calibration.safetensors"
ADVICE = "run python -m precompute calibrate"
TRACE = "trace: unrelated"  # no concept has this name
TOLD = {"settings": {str: object}, "pictures": {str: int}}


@dataclass(frozen=True)
class Calibration:
    """The evidence of pictures for which there is none; each null in the order of its drawing."""

    unrelated: Float[Tensor, "null"]  # of whole descriptions, for unrelated pictures
    unshown: dict[str, Float[Tensor, "draw"]]  # concept -> of phrases for what is not shown
    traces: Float[Tensor, "null"] | None = None  # of the same unrelated pictures; None in old files

    @property
    def nulls(self) -> dict[str, Float[Tensor, "null"]]:
        """Give all nulls by their names."""
        known = {GENERAL: self.unrelated} | self.unshown
        return known if self.traces is None else known | {TRACE: self.traces}

    def p_values(self, found: dict[str, float]) -> dict[str, float]:
        """Give the p-value of the whole picture and of every concept."""
        if GENERAL not in found:  # no words, no evidence
            return {GENERAL: 1.0}
        whole = p_value(self.unrelated, found[GENERAL])
        concepts = {c: p_value(self.unshown[c], found[c]) for c in self.unshown if c in found}
        return {GENERAL: whole} | {c: max(whole, p) for c, p in concepts.items()}


def p_value(null: Float[Tensor, "null"], value: float) -> float:
    """Give (1 + #{null >= value}) / (n + 1)."""
    if math.isnan(value):
        raise InputError("the model gives no loss for this picture (NaN); check the model")
    return (1 + int((null >= value).sum())) / (len(null) + 1)


def evidence(seen: Encoded, words: dict[str, str], sentence: str = "") -> dict[str, float]:
    """Give the evidence of each question's words, in natural logarithms of the loss; without words, the picture's own.

    Concepts are asked in the collection's `sentence` of all of their phrases.
    """
    if seen.model.family.reads == "nothing":
        return {GENERAL: known_as_it_is(seen)}
    concepts = {name: phrase for name, phrase in words.items() if phrase and name != GENERAL}
    whole = full_prompt(concepts, sentence)
    asked = {GENERAL: (words[GENERAL], "")} if words.get(GENERAL) else {}  # with, without
    for name in concepts:
        others = {other: phrase for other, phrase in concepts.items() if other != name}
        asked[name] = (whole, full_prompt(others, sentence))
    if not asked:
        return {}
    every = [text for pair in asked.values() for text in pair]
    losses = denoising_losses(seen, every).log().unflatten(0, (len(asked), 2))
    found = (losses[:, 1] - losses[:, 0]).mean(1).tolist()
    return dict(zip(asked, found, strict=True))


def described(phrases: dict[str, str], prompt: str = "", sentence: str = "") -> dict[str, str]:
    """Give the words of every question: of the whole picture, all phrases in a sentence, or the prompt without any."""
    return {GENERAL: full_prompt(phrases, sentence) or prompt} | phrases


def evidence_as_upload(
    model: DiffusionModel, collection: Collection, image: Image.Image, caption: str = ""
) -> dict[str, float]:
    """Give the evidence for a picture that nobody described; the caption serves where there are no concepts."""
    seen = Encoded(model, [image])
    concepts, sentence = collection.concepts, collection.sentence
    phrases = recognise(seen, concepts, sentence) if concepts else {}
    return evidence(seen, described(phrases, caption, sentence), sentence)


def evidence_unshown(
    seen: Encoded, shown: dict[str, str], wrong: dict[str, str], sentence: str
) -> dict[str, float]:
    """Give each concept's evidence for a wrong phrase among the others' right ones."""
    return {c: evidence(seen, shown | {c: phrase}, sentence)[c] for c, phrase in wrong.items()}


def phrases_not_shown(
    collection: Collection, values: list[dict[str, str]], seed: int
) -> list[dict[str, str]]:
    """Choose for every picture and concept a phrase of another value, at random."""
    rng = np.random.default_rng(seed)
    return [
        {
            c: str(rng.choice([p for v, p in phrases.items() if v != shown[c]]))
            for c, phrases in collection.concepts.items()
        }
        for shown in values
    ]


def calibrated_for(model: DiffusionModel, concepts: Phrases, sentence: str = "") -> dict[str, str]:
    """Say what a calibration depends on: the model, the phrases and their sentence; images and weights are free."""
    asked = "of pictures alone" if model.family.reads == "nothing" else "in sentences"
    if sentence:  # the collection's own
        asked = f"in sentences such as {sentence!r}"
    return {"model": model.fingerprint, "concepts": hash_of(concepts), "evidence": asked}


def write_calibration(
    folder: Path, calibration: Calibration, belongs_to: dict[str, str], settings: dict
) -> None:
    """Write `calibration.safetensors`."""
    nulls = calibration.nulls
    if not all(torch.isfinite(null).all() and len(null) for null in nulls.values()):
        raise InputError("the evidence of the null is empty or not finite; check the model")
    pictures = {name: len(null) for name, null in nulls.items()}
    write_described(folder / FILE, nulls, belongs_to, settings=settings, pictures=pictures)


def read_calibration(folder: Path, belongs_to: dict[str, str]) -> Calibration | None:
    """Read a cache's calibration; None where it has none, refused where it is another model's."""
    path = folder / FILE
    if not path.is_file():
        return None
    about = read_about(path, belongs_to, TOLD, ADVICE)
    if GENERAL not in about["pictures"]:
        raise InputError(f"{path} is damaged: no pictures for {GENERAL}; {ADVICE}")
    wanted = {name: Wanted(torch.float32, (count,)) for name, count in about["pictures"].items()}
    nulls = read_described(path, about, wanted, ADVICE)
    unrelated, traces = nulls.pop(GENERAL), nulls.pop(TRACE, None)
    return Calibration(unrelated, nulls, traces)


def calibrated_by(folder: Path, belongs_to: dict[str, str]) -> dict[str, object]:
    """Give the settings that a cache's calibration was made with; none where it has none."""
    path = folder / FILE
    return read_about(path, belongs_to, TOLD, ADVICE)["settings"] if path.is_file() else {}
