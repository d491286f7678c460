"""What can be asked has a name for links and one for programs, which collide with nothing, however concepts are called."""

import inspect
import json
from dataclasses import replace
from urllib.parse import parse_qs

import gradio as gr
import pytest
from PIL import Image

from attribution.answer.answer import Answer
from attribution.errors import InputError
from attribution.looks.depth import depth
from attribution.page.choices import Choices, headed, in_link, name_of
from attribution.page.desk import Desk
from attribution.page.endpoints import Endpoints, named
from attribution.page.hall import Hall
from attribution.page.session import Session, as_mix
from attribution.pictures.collection import load_collection
from attribution.pictures.vocabulary import read_concepts

ODD = ("artist", "seed", "count", "text", "hair colour", "hair_colour", "by.artist", "by_artist", "2d", "класс", "self_")  # fmt: skip


@pytest.fixture(scope="module")
def odd(attributor):
    words = {name: {"a": f"a {name}", "b": f"b {name}"} for name in ODD}
    return replace(Choices.of(attributor), questions=("general", *ODD), words=words)


def test_the_shipped_concepts_keep_their_names(attributor):
    choices = Choices.of(attributor)
    names = ("general", "subject", "style", "background")
    assert choices.questions == tuple(choices.arguments.values()) == names
    assert tuple(map(in_link, names)) == names
    assert [headed(n) for n in names] == ["Whole picture", "Subject", "Style", "Background"]
    assert choices.column == "style"
    assert choices.artists
    assert choices.model["family"] == "StableDiffusionPipeline"


def test_odd_names_collide_with_nothing_in_a_link(odd, attributor):
    mix = {name: 0.5 for name in odd.questions}
    answer = Answer({name: attributor.mean_feature[0] for name in mix}, {}, attributor.collection)
    session = Session(Image.new("RGB", (8, 8)), answer, "d-trak", "a prompt", 7, mix, artist="Ann")
    told = parse_qs(session.link().removeprefix("?"))
    assert told["prompt"] == ["a prompt"]
    assert told["seed"] == ["7"]
    assert told["artist"] == ["Ann"]
    assert [told[in_link(name)] for name in odd.questions] == [["0.5"]] * len(mix)


def test_odd_names_collide_with_nothing_in_a_call(odd, attributor):
    arguments = odd.arguments
    assert len(set(arguments.values())) == len(odd.questions)
    assert all(argument.isidentifier() for argument in arguments.values())
    endpoints = Endpoints(Hall(Desk(attributor)))
    for handler in (endpoints.rank, endpoints.look, endpoints.report, endpoints.attribute):
        asked = list(inspect.signature(named(handler, odd)).parameters)
        assert [name for name in asked if name in arguments.values()] == list(arguments.values())
        assert "mix" not in asked


def test_a_handler_gets_every_amount_by_its_question(odd):
    def handler(session: object, request: gr.Request, mix: dict, count: object = 3) -> tuple:
        return session, request, mix, count

    asked = named(handler, odd)
    amounts = [n / 100 for n in range(len(odd.questions))]
    session, request, mix, count = asked("its", "request", *amounts, 5)
    assert (session, request, count) == ("its", "request", 5)
    assert mix == dict(zip(odd.questions, amounts, strict=True))


def test_a_concept_may_be_called_as_an_argument_of_ours(attributor):
    answer = attributor.attribute(attributor.collection.image(3), "a woodcut of a cat at night")
    asked = {name: {new: getattr(answer, name)["style"] for new in ("row", "answer", "attributor")} for name in ("scores", "asked", "weights")}  # fmt: skip
    called = replace(answer, **asked)
    for name in ("row", "answer", "attributor"):
        found = depth(attributor, called, 3, **{name: 1.0})
        assert float(found.parts.sum()) == pytest.approx(float(answer.scores["style"][3]), abs=1e-4)


def test_what_was_not_asked_is_not_mixed(attributor):
    answer = Answer({"general": attributor.mean_feature[0]}, {}, attributor.collection)
    with pytest.raises(InputError, match="was not asked about its mood; choose another"):
        as_mix({"general": 0, "mood": 1}, answer)
    with pytest.raises(InputError, match="was not asked about its mood; choose another"):
        as_mix({"general": 1, "mood": 1}, answer)
    with pytest.raises(InputError, match="give general an amount above zero"):
        as_mix({"general": 0}, answer)


def test_a_name_of_visitors_own_concepts_is_no_concept(tmp_path):
    (tmp_path / "concepts.json").write_text(json.dumps({"own:x": {"a": "b", "c": "d"}}))
    with pytest.raises(InputError, match="'own:x'; give it another name"):
        read_concepts(tmp_path)


def test_nobody_learns_where_a_model_lies_on_this_machine(tmp_path):
    assert name_of(str(tmp_path / "people/jane/model")) == "model"
    assert name_of("owner/name@v2") == "owner/name@v2"


def test_the_column_is_style_or_a_concepts_or_the_classes(attributor, small_collection):
    whole = load_collection(small_collection)
    for keys, column in ((("subject",), "subject"), (("label",), "label"), ((), "")):
        labels = [{key: "x" for key in keys} for _ in whole.labels]
        other = Choices.of(_with(attributor, replace(whole, labels=labels)))
        assert (other.column, other.artists) == (column, False)


def _with(attributor, collection):
    return type(attributor)(attributor.model, collection, attributor.cache)
