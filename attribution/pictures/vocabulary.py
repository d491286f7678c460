"""Read the words of a collection: the phrase of every value of every concept, and what no picture shows.

In: a folder with perhaps `concepts.json` and `held_out.json`. Out: both, checked: what is checked here is what is used.
It knows no picture.
"""

import math
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from attribution.files import parse_json, read_bytes

# Names in weights.safetensors beside the concepts', safetensors' own, and arguments of `Answer.rank`.
RESERVED = ("general", "equalised", "scales", "__metadata__", "self", "count", "among", "column")
MOST_COMBINATIONS = 1_000_000  # of values; all of them are listed
EXAMPLE = '{"style": {"woodcut": "a woodcut", "neon": "a neon sign"}}'
Concepts = dict[str, dict[str, str]]  # concept -> value -> the phrase that names it alone


def read_concepts(folder: Path) -> Concepts:
    """Read the phrase of every value of every concept; none where there is no concepts.json."""
    path = folder / "concepts.json"
    if not path.is_file():
        return {}
    found = _parsed(read_bytes(path), str(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no concepts; write it like {EXAMPLE}")
    for concept, values in found.items():
        if not concept.strip() or concept in RESERVED:
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
    return found


def read_held_out(folder: Path, concepts: Concepts) -> list[dict[str, str]]:
    """Read the combinations of values that no picture shows; without concepts there are none."""
    path = folder / "held_out.json"
    if not path.is_file() or not concepts:
        return []
    found = _parsed(read_bytes(path), str(path))
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
