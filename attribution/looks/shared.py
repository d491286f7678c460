"""Say what a training image shares with a picture, by labels alone.

In: the phrases that a picture was traced under, and the labels of one training image. Out: a sentence such as "Same
style and background, another subject." It knows no score, and not whether the phrases are true of the picture.
"""

from attribution.concepts import Phrases


def shared(
    phrases: dict[str, str], labels: dict[str, str], known: Phrases
) -> tuple[list[str], list[str]]:
    """Give the concepts of which both show the same, and those of which they do not; left out is what is unknown of either."""
    values = {
        concept: value
        for concept, named in known.items()
        for value, phrase in named.items()
        if phrases.get(concept) == phrase and concept in labels
    }
    same = [concept for concept, value in values.items() if labels[concept] == value]
    return same, [concept for concept in values if concept not in same]


def sentence(same: list[str], others: list[str]) -> str:
    """Say it; nothing where nothing is known."""
    pairs = (("same", same), ("another", others))
    text = ", ".join(f"{how} {listed(names)}" for how, names in pairs if names)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def listed(names: list[str]) -> str:
    """Write names in a row: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
