"""What the shipped model answered at commit dbe9e44 it answers still: a change of these is a change of method."""

import json
from pathlib import Path

import pytest
from PIL import ImageOps

RECORD = json.loads((Path(__file__).parent / "record.json").read_text())


def told(answer):
    ranked = {name: answer.rank(10, **{name: 1.0}) for name in answer.scores}
    shares = {name: answer.artists(**{name: 1.0})[:2] for name in answer.scores}
    return {
        "phrases": answer.phrases,
        "p_values": pytest.approx(answer.p_values, abs=1e-6),
        "first": {name: [source.index for source in sources] for name, sources in ranked.items()},
        "shares": {
            name: [[share.artist, pytest.approx(share.share, abs=1e-4)] for share in found]
            for name, found in shares.items()
        },
    }


@pytest.mark.parametrize(("place", "number"), enumerate((0, 5)))
def test_ready_examples_answer_as_recorded(hall, place, number):
    assert RECORD["examples"][place] == told(hall.desk.examples[number].answer)


@pytest.mark.parametrize(("place", "number"), enumerate((1, 8)))
def test_uploads_are_answered_as_recorded(hall, place, number):
    its = hall.desk.attributor
    image, caption = its.collection.image(number * 241), its.collection.captions[number * 241]
    if number == 1:
        image, prompt = ImageOps.mirror(image), caption
    else:
        image, prompt = image.resize((200, 150)), ""
    assert RECORD["uploads"][place] == told(its.attribute(image, prompt))
