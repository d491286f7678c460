"""Say what a visitor may choose from: what the model reads, the cache has weights for and the collection names.

In: an `Attributor`. Out: `Choices`, the one place that the page's questions, words and columns come from. It knows no
layout and no visitor.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.models.adapters import split_name
from attribution.models.diffusion import moving_names
from attribution.models.single_file import split_config
from attribution.page.language import say
from attribution.pictures.hub import is_hub_id
from attribution.pictures.vocabulary import OWN

WHOLE = "whole picture"
LINKED = ("prompt", "seed", "artist", "method")  # what else a link says
ARGUMENTS = (  # what else programs say, and names that Gradio's clients keep to themselves
    "prompt", "seed", "method", "session", "own", "row", "count", "artist", "own_concept", "request", "self",
    "text", "phrase", "upload", "left_out", "api_name", "fn_index", "result_callbacks",
)  # fmt: skip


def question_of(name: str) -> str:
    """Name a question in words."""
    return WHOLE if name == GENERAL else name.removeprefix(OWN)


def headed(name: str) -> str:
    """Name a question in the page's language, where a name begins with a capital."""
    words = say(question_of(name))
    return words[:1].upper() + words[1:]


def in_link(name: str) -> str:
    """Name a question in a link."""
    return f"by.{name}" if name in LINKED or name.startswith("by.") else name


def as_argument(name: str) -> str:
    """Name a question as a program's argument."""
    word = re.sub(r"\W", "_", name)
    word = word if word.isidentifier() else f"_{word}"
    return f"by_{word}" if word in ARGUMENTS or word.startswith("by_") else word


@dataclass(frozen=True)
class Choices:
    """What there is to choose from."""

    questions: tuple[str, ...]  # the whole picture first, then concepts that have weights
    words: dict[str, dict[str, str]]  # concept -> value -> the phrase of it that a prompt holds
    column: str  # the label that pictures are shown with and sought by; "" where there is none
    artists: bool  # whether the collection names any
    reads: str  # by the model: prompt, label or nothing
    forgets: bool  # whether the model has what unlearning moves
    maps: bool  # whether it is known where layers' positions lie
    model: dict[str, str | None]  # which one answers

    @classmethod
    def of(cls, attributor: Attributor) -> "Choices":
        """Look at what is loaded."""
        visible, model = attributor.visible, attributor.model
        concepts = attributor.collection.concepts
        base, adapters = split_name(model.name)
        asked = tuple(concept for concept in concepts if concept in attributor.weights)
        columns = [c for c in ("style", *concepts, "label") if visible.has(c) and c != "artist"]
        return cls(
            (GENERAL, *asked), concepts, columns[0] if columns else "", visible.has("artist"),
            model.family.reads, bool(moving_names(model)), model.family.maps,
            {
                "name": name_of(base),
                "family": type(model.pipeline).__name__,
                "network": type(model.denoiser).__name__,
                "reads": model.family.reads,
                "adapter": " + ".join(map(name_of, adapters)) or None,
                "fingerprint": model.fingerprint,
            },
        )  # fmt: skip

    @property
    def concepts(self) -> tuple[str, ...]:
        """Give what can be asked besides the whole picture."""
        return self.questions[1:]

    @property
    def arguments(self) -> dict[str, str]:
        """Name every question as a program does, each otherwise than all others."""
        found: dict[str, str] = {}
        for name in self.questions:
            word = as_argument(name)
            while word in found.values():
                word += "_"
            found[name] = word
        return found


def name_of(model: str) -> str:
    """Name a model or an adapter to visitors: its Hub id, or its folder or file without what lies above it or beside it."""
    model, _ = split_config(model)
    return model if is_hub_id(model) else Path(model).resolve().name
