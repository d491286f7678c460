"""What a picture and a training image share is said from labels, and nothing is said of what is unknown."""

import pytest

from attribution.looks.shared import sentence, shared

KNOWN = {
    "subject": {"cat": "a cat", "fish": "a fish"},
    "style": {"neon": "a neon sign", "woodcut": "a woodcut"},
    "place": {"sea": "by the sea", "city": "in the city"},
}
ASKED = {"general": "a neon sign of a cat by the sea", "subject": "a cat", "style": "a neon sign", "place": "by the sea"}  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"subject": "fish", "style": "neon", "place": "sea"}, "Same style and place, another subject."),
        ({"subject": "cat", "style": "neon", "place": "sea"}, "Same subject, style and place."),
        ({"subject": "fish", "style": "woodcut", "place": "city"}, "Another subject, style and place."),
        ({"subject": "cat", "artist": "Ann"}, "Same subject."),
        ({}, ""),
    ],
)  # fmt: skip
def test_labels_say_what_is_shared(labels, said):
    assert sentence(*shared(ASKED, labels, KNOWN)) == said


def test_a_phrase_that_names_no_known_value_says_nothing():
    labels = {"subject": "cat", "style": "neon"}
    assert shared({"subject": "a dinosaur", "style": "a neon sign"}, labels, KNOWN) == (
        ["style"],
        [],
    )
