"""Read the words of a collection: the phrase of every value of every concept, and what no picture shows.

In: a folder with perhaps `concepts.json` and `held_out.json`. Out: both, checked: what is checked here is what is used.
`concepts.json` may also hold `"prompt": "{style} of {subject} {background}"`, the sentence that names every concept.
It opens no picture.
"""

import logging
import math
from pathlib import Path
from string import Formatter
from typing import Any

from attribution.errors import InputError
from attribution.files import MOST_JSON, parse_json, read_bytes

# Names in weights.safetensors beside the concepts', safetensors' own, and arguments of `Answer.rank`.
RESERVED = ("general", "equalised", "scales", "__metadata__", "self", "count", "among", "column")
MOST_COMBINATIONS = 1_000_000  # of values; all of them are listed
EXAMPLE = '{"style": {"woodcut": "a woodcut", "neon": "a neon sign"}}'
PROMPT = "prompt"  # in concepts.json, beside the concepts
OWN = "own:"  # begins the names of visitors' own concepts
LOG = logging.getLogger(__name__)
Concepts = dict[str, dict[str, str]]  # concept -> value -> the phrase that names it alone


def read_concepts(folder: Path) -> tuple[Concepts, str]:
    """Read the phrase of every value of every concept, and the sentence that they make.

    Without concepts.json there are no concepts; "" stands for a sentence that is left to us.
    """
    path = folder / "concepts.json"
    if not path.is_file():
        return {}, ""
    found = _parsed(read_bytes(path, MOST_JSON), str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no concepts; write it like {EXAMPLE}")
    sentence = found.pop(PROMPT, "")
    for concept, values in found.items():
        if not concept.strip() or concept in RESERVED or concept.startswith(OWN):
            raise InputError(f"{path} has a concept named {concept!r}; give it another name")
        texts = [*values, *values.values()] if isinstance(values, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError(
                f"{path} does not give each value of {concept[:80]!r} a phrase; write it like {EXAMPLE}"
            )
        if len(values) < 2:
            raise InputError(
                f"{path} gives {concept[:80]!r} fewer than two values, so that nothing differs in it; "
                "add another or leave the concept out"
            )
    every = math.prod(len(values) for values in found.values())
    if every > MOST_COMBINATIONS:
        raise InputError(
            f"{path} makes {every} combinations of values; leave some out, at most {MOST_COMBINATIONS} are listed"
        )
    _check_sentence(sentence, found, path)
    return found, sentence


def _check_sentence(sentence: Any, concepts: Concepts, path: Path) -> None:
    """Refuse a sentence that does not name every concept exactly once."""
    names = "{" + "} {".join(concepts) + "}"
    try:
        parts = (
            list(Formatter().parse(sentence)) if isinstance(sentence, str) else [("", "", "", "")]
        )
    except ValueError:
        parts = [("", "", "", "")]
    if any(spec or conversion for _, _, spec, conversion in parts) or (
        sentence and sorted(name for _, name, *_ in parts if name is not None) != sorted(concepts)
    ):
        raise InputError(
            f"{path} has a {PROMPT!r} that does not name each concept once; write a sentence with {names[:200]}"
        )


def check_shown(concepts: Concepts, labels: list[dict[str, str]], folder: Path) -> None:
    """Refuse a concept whose label no picture has, and name values that no picture shows.

    A collection without labels of a concept is sound: its words stand in the captions.
    """
    for concept, values in concepts.items():
        shown = {row[concept] for row in labels if concept in row}
        lost = [value for value in values if value not in shown]
        if shown and len(lost) == len(values):
            raise InputError(
                f"{folder} has labels of {concept!r} such as {min(shown)[:80]!r}, and concepts.json none of them; "
                "write the values as the labels do"
            )
        if shown and lost:
            LOG.warning("no picture in %s has the %s %s", folder, concept, ", ".join(lost)[:200])


def read_held_out(folder: Path, concepts: Concepts) -> list[dict[str, str]]:
    """Read the combinations of values that no picture shows; without concepts there are none."""
    path = folder / "held_out.json"
    if not path.is_file() or not concepts:
        return []
    found = _parsed(read_bytes(path, MOST_JSON), str(path))
    known = {concept: list(values) for concept, values in concepts.items()}
    if not isinstance(found, list) or not all(
        isinstance(each, dict)
        and each.keys() == known.keys()
        and all(value in known[concept] for concept, value in each.items())
        for each in found
    ):
        raise InputError(
            f"{path} must list combinations, each with one value of concepts.json for every concept; "
            "mend it or remove it"
        )
    return found


def _parsed(data: bytes, where: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise InputError(f"{where} is not plain JSON: {error}") from error
