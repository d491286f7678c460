"""Say what a training image shares with a picture, by labels alone.

In: the phrases that a picture was traced under, and the labels of one training image. Out: a sentence such as "Same
style and background, another subject." It knows no score, and not whether the phrases are true of the picture.
"""

from attribution.concepts import Phrases
from attribution.sentence import Sentence, in_a_row


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
    if same and others:
        return Sentence("Same {same}, another {others}.", same=listed(same), others=listed(others))
    if same:
        return Sentence("Same {same}.", same=listed(same))
    return Sentence("Another {others}.", others=listed(others)) if others else ""


def listed(names: list[str]) -> Sentence:
    """Write names in a row: a, b and c."""
    words = [Sentence(name) for name in names]
    return (
        words[0]
        if len(words) == 1
        else in_a_row([in_a_row(words[:-1], "{some}, {name}"), words[-1]])
    )
