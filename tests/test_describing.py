"""What a picture shows is taken from its nearest training images where they agree, and only there."""

from dataclasses import replace

import pytest
import torch

from attribution.attributor import AMONG, Attributor
from attribution.errors import InputError
from attribution.models.encoded import Encoded


def labelled(attributor, styles):
    """Give the attributor of a collection whose images, in this order, show these styles."""
    labels = [
        row | {"style": style}
        for row, style in zip(attributor.collection.labels, styles, strict=True)
    ]
    collection = replace(attributor.collection, labels=labels)
    return Attributor(attributor.model, collection, attributor.cache)


@pytest.fixture
def seen(attributor):
    return Encoded(attributor.model, [attributor.collection.image(3)])


@pytest.fixture
def first(attributor, seen):
    """The nearest images by style of a picture that is asked about without words."""
    bare = attributor.ask(seen, {"general": ""}, {"general": attributor.weights["style"]})
    return torch.as_tensor([source.index for source in bare.rank(AMONG)])


def test_the_nearest_agree_or_the_picture_alone_decides(attributor, seen, first):
    style = {"style": attributor.collection.concepts["style"]}
    others = ["neon", "halftone", "watercolour"]
    for agreeing, phrase in ((10, "a woodcut"), (7, "a woodcut"), (6, None)):
        styles = [others[n % 3] for n in range(len(attributor.collection))]
        for row in first[:agreeing].tolist():
            styles[row] = "woodcut"
        found = labelled(attributor, styles).agreed(seen, style)
        assert found == ({"style": phrase} if phrase else {})


def test_what_most_images_show_says_nothing(attributor, seen):
    everywhere = labelled(attributor, ["woodcut"] * len(attributor.collection))
    assert everywhere.agreed(seen, {"style": attributor.collection.concepts["style"]}) == {}


def test_a_prompt_wins_over_what_the_nearest_show(attributor, seen, first):
    styles = ["neon"] * len(attributor.collection)
    for row in first.tolist():
        styles[row] = "woodcut"
    its = labelled(attributor, styles)
    assert its.describe(seen, "")["style"] == "a woodcut"
    assert its.describe(seen, "a watercolour")["style"] == "a watercolour"
    assert its.describe(seen, "a cat").keys() == attributor.collection.concepts.keys()


@pytest.mark.parametrize("names", [{"sytle": "a woodcut"}, {"general": "a cat"}])
def test_a_phrase_for_what_is_no_concept_is_refused(attributor, names):
    image = attributor.collection.image(0)
    with pytest.raises(
        InputError, match=f"no concept {next(iter(names))} .* subject, style, background"
    ):
        attributor.attribute(image, "a cat", {"style": "a woodcut"} | names)
