"""The page's endpoints on the shipped model, asked by programs."""

import json
import urllib.error
import urllib.request

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from attribution.page.session import COUNT
from precompute.__main__ import main

PROMPT = "a woodcut of a cat in the city"


@pytest.fixture
def client(url, tmp_path):
    return Client(url, verbose=False, download_files=tmp_path)


def test_a_program_generates_and_ranks_anew(client, desk):
    picture, answer = client.predict(PROMPT, 3, api_name="/generate")
    assert Image.open(picture).size == desk.attributor.model.size
    assert answer["stands_out"]
    assert [source["rank"] for source in answer["sources"]] == list(range(1, COUNT + 1))
    by_style = client.predict(general=0, style=1, count=5, api_name="/rank")
    assert len(by_style["sources"]) == 5
    assert by_style["sources"][0]["file"] != answer["sources"][0]["file"]
    again = client.predict(general=1, api_name="/rank")
    assert again == answer
    artist = answer["artists"][-1]["artist"]
    theirs = client.predict(artist=artist, api_name="/rank")["sources"]
    assert {source["artist"] for source in theirs} == {artist}


@pytest.mark.slow
def test_identical_requests_get_identical_answers(client, url):
    _, first = client.predict(PROMPT, 3, api_name="/generate")
    _, second = Client(url, verbose=False).predict(PROMPT, 3, api_name="/generate")
    assert first == second


@pytest.mark.slow
def test_a_program_looks_browses_learns_forgets_and_reports(client, tmp_path):
    found = client.predict("cat", "", "woodcut", api_name="/browse")
    assert all(image["style"] == "woodcut" for image in found)
    _, answer = client.predict(PROMPT, 3, api_name="/generate")
    first = answer["sources"][0]
    parts = client.predict(first["row"], api_name="/look")["blocks"]
    assert sum(map(sum, parts.values())) == pytest.approx(first["score"], abs=0.01)
    learned = client.predict("at night", api_name="/learn")
    assert learned == {"phrase": "at night", "unknown_words": []}
    own = client.predict(general=0, own_concept=1, api_name="/rank")
    assert own["mix"] == {"own:at night": 1.0}
    *pictures, little = client.predict([first["row"]], "", api_name="/without")
    assert (pictures, little["drawn"]) == ([None, None, None], [])  # too little, and so it says
    *pictures, much = client.predict([], answer["artists"][0]["artist"], api_name="/without")
    assert len({Image.open(picture).size for picture in pictures}) == 1
    assert 0 < little["share"] < much["share"]
    before, after, *controls = much["drawn"]
    assert after["loss"] > before["loss"]
    assert controls
    path = tmp_path / "report.json"
    path.write_text(json.dumps(client.predict(api_name="/report")))
    assert main(["verify", str(path)]) == 0


def test_each_visitor_has_an_answer_of_their_own(client, url, desk):
    client.predict(PROMPT, 3, api_name="/generate")
    other = Client(url, verbose=False).predict(api_name="/rank")
    assert other["phrases"] == desk.first().answer.phrases  # what everybody sees at first


@pytest.mark.parametrize(
    ("prompt", "seed", "message"),
    [
        (" ", 3, "Describe a picture first"),
        ("x" * 10_000, 3, "10000 characters; the limit is 1000"),
        ("a cat", -1, "from 0 to"),
        ("a cat", 2.5, "no whole number"),
    ],
)
def test_bad_words_and_seeds_give_one_sentence(client, prompt, seed, message):
    with pytest.raises(AppError, match=message):
        client.predict(prompt, seed, api_name="/generate")


@pytest.mark.parametrize("kind", ["text", "svg", "bomb"])
def test_a_bad_file_gives_one_sentence(client, tmp_path, kind):
    path = tmp_path / {"text": "notes.png", "svg": "drawing.svg", "bomb": "bomb.png"}[kind]
    path.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>" if kind == "svg" else b"hello")
    if kind == "bomb":
        Image.new("1", (13_000, 13_000)).save(path)
    message = "40 megapixels" if kind == "bomb" else "not a readable JPEG, PNG or WebP"
    with pytest.raises(AppError, match=message):
        client.predict(handle_file(path), "", api_name="/trace")


def test_a_program_traces_a_picture(client, tmp_path):
    path = tmp_path / "holiday.jpg"
    Image.new("RGB", (80, 60), "teal").save(path)
    answer = client.predict(handle_file(path), PROMPT, api_name="/trace")
    assert len(answer["sources"]) == COUNT
    assert not answer["stands_out"]


def test_no_file_of_this_machine_is_served(url, desk):
    for file in ("metadata.jsonl", desk.collection.files[0], "../../app.py"):
        path = (desk.collection.folder / file).resolve()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/gradio_api/file={path}")
