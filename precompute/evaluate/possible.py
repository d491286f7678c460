"""Say what can be measured on a collection, and why the rest cannot, before anything is measured.

In: a collection, its model's family, and which measurement. Out: what it lacks, in words. What names nothing here is about
what is shipped: its code draws the shipped pictures, or its truth was trained on them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from attribution.models.families import Family
from attribution.pictures.collection import Collection

TOP = 10  # images of which precision is told


@dataclass(frozen=True)
class Measured:
    """What a measurement would be made on."""

    collection: Collection
    family: Family
    shipped: bool


Lack = Callable[[Measured], str]  # what is lacking; nothing where it is there


def words(on: Measured) -> str:
    """Want a model that reads prompts, and concepts."""
    if on.family.reads != "prompt":
        return "the model reads no prompts"
    return "" if on.collection.concepts else "no concepts.json"


def held_out(on: Measured) -> str:
    """Want combinations that no picture shows."""
    return "" if on.collection.held_out else "no held-out combinations (held_out.json)"


def labels(on: Measured) -> str:
    """Want every concept's value of every picture."""
    lacking = [c for c in on.collection.concepts if any(c not in row for row in on.collection.labels)]  # fmt: skip
    return f"no label of {', '.join(lacking)} for every picture" if lacking else ""


def several(on: Measured) -> str:
    """Want pictures enough."""
    return "" if len(on.collection) >= TOP else f"fewer than {TOP} pictures"


def maps(on: Measured) -> str:
    """Want layers whose positions are known."""
    return "" if on.family.maps else "the model has no maps"


def pair(on: Measured) -> str:
    """Want the two concepts that are told apart."""
    return "" if {"style", "subject"} <= on.collection.concepts.keys() else "no style and subject"


def what_is_shipped(on: Measured) -> str:
    """Want the shipped collection and model."""
    return "" if on.shipped else "it is about the shipped collection alone"


NEEDS: dict[str, tuple[Lack, ...]] = {
    "factors": (words, held_out, labels, several),
    "world": (words, held_out, labels),
    "calibration": (words, held_out),
    "listed": (words, held_out),
    "unnamed": (words, labels),
    "regions": (words, labels, maps),
    "unlearning": (words, held_out, labels, pair),
    "identity": (several,),
    "domains": (),
}


def lacking(what: str, on: Measured) -> list[str]:
    """Say what a collection and its model lack for a measurement."""
    return [said for need in NEEDS.get(what, (what_is_shipped,)) if (said := need(on))]


def told(names: tuple[str, ...], on: Measured) -> str:
    """Say in two sentences what can be measured and what cannot."""
    found = {name: lacking(name, on) for name in names}
    can = [name for name, reasons in found.items() if not reasons]
    cannot = [f"{name} ({', '.join(reasons)})" for name, reasons in found.items() if reasons]
    return (
        f"{on.collection.folder}: can be measured here: {', '.join(can) or 'nothing'}. "
        f"Cannot: {'; '.join(cannot) or 'none'}."
    )
