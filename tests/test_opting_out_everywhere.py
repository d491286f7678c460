"""Who asks to be left out while the page is served is gone from everything that it answers from then on."""

import base64
import itertools
import json
import re
import socket
from dataclasses import replace

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageOps

from attribution.looks.unlearning import UnlearnConfig
from attribution.page.desk import ANY, NOBODY
from attribution.page.hall import Hall, load
from attribution.page.html import as_data
from attribution.page.server import serve
from attribution.page.session import SEED
from attribution.page.settings import Settings
from attribution.report.report import png_of

pytestmark = pytest.mark.slow

PATIENCE = 120  # seconds for one request
FILES = re.compile(r"data:(?:text/html|application/json|text/csv);base64,([\w+/=]+)")


@pytest.fixture(scope="module")
def requests(tmp_path_factory):
    """The list of who is not to be shown, empty at first."""
    path = tmp_path_factory.mktemp("requests") / "opt_out.json"
    path.write_text("{}")
    return path


@pytest.fixture(scope="module")
def desk(requests):
    """A desk of its own, in haste where it learns, forgets and draws for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attribution.looks.unlearning.DRAWING", 2)
        loaded = load(Settings(opt_out=str(requests)))
        yield replace(loaded.desk, own_queries=1, unlearning=UnlearnConfig(steps=1, batch_size=2))


@pytest.fixture(scope="module")
def demo(desk, served_folder):
    """The page, served."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = serve(Hall(desk), "127.0.0.1", port, block=False)
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def gone(desk):
    """Who will ask: the artist of the first example's best, the best of anybody else, the collection's first."""
    best, *others = desk.first().answer.rank(12)
    artist = best.labels["artist"]
    other = next(source for source in others if source.labels["artist"] != artist)
    theirs = [n for n, about in enumerate(desk.collection.labels) if about["artist"] == artist]
    files = [other.file, desk.collection.files[0]]
    return {"artist": artist, "files": files, "rows": [0, *theirs, other.index], "best": best}


@pytest.fixture(scope="module")
def secrets(desk, gone):
    """What betrays them: files, the name, captions that nobody else has, pixels as page and report write them."""
    its, rows = desk.collection, gone["rows"]
    others = [its.captions[row] for row in set(range(len(its))) - set(rows)]
    said = "\n".join([*others, *(example.prompt for example in desk.examples)])
    found = {gone["artist"], *(its.files[row] for row in rows)}
    captions = {its.captions[row] for row in rows}
    found |= {caption for caption in captions if caption not in said}
    assert len(found) > len(rows) + 1
    for image in map(its.image, rows):
        found |= {as_data(image, 160), as_data(image), png_of(image)}
    return found


def betrayed(secrets, text):
    """Search a text, and the files that it holds, for what betrays somebody."""
    held = [base64.b64decode(file).decode() for file in FILES.findall(text)]
    return sorted(
        secret[:60] for secret in secrets if any(secret in each for each in [text, *held])
    )


class Visitor:
    """A browser's requests: the page's own events, by the names of their handlers."""

    numbers = itertools.count()

    def __init__(self, demo):
        self.demo, self.session = demo, f"visitor{next(self.numbers)}"
        self.address = demo.local_url + "gradio_api/queue/"

    def press(self, name, *given, **event):
        """Send an event, and give all that comes back; what is not given is as the page has it at first."""
        number, handler = next(
            (n, f)
            for n, f in self.demo.fns.items()
            if (f.name, f.api_visibility) == (name, "private")
        )
        data = [None if block.stateful else block.value for block in handler.inputs]
        data[len(data) - len(given) :] = given
        body = {"fn_index": number, "data": data, "session_hash": self.session, "event_data": event}
        httpx.post(self.address + "join", json=body).raise_for_status()
        with httpx.stream("GET", self.address + "data", params={"session_hash": self.session}, timeout=PATIENCE) as reply:  # fmt: skip
            return "\n".join(itertools.takewhile(lambda line: "close_stream" not in line, reply.iter_lines()))  # fmt: skip

    def looks(self, desk, gone):
        """Look at everything that needs no long job."""
        heard, row, artist = {}, gone["best"].index, gone["artist"]
        heard["start"] = self.press("start")
        heard["example"] = self.press("choose", example=desk.chosen(1)[0])
        self.press("mark")
        heard["ranking"] = self.press("rank")
        heard["closer"] = self.press("closer", row=row)
        heard["where"] = self.press("where")
        heard["report"] = self.press("report")
        heard["opened"] = self.press("open", row=row)
        for name, fields in {
            "all": ("", ANY, ANY), "caption": (gone["best"].caption, ANY, ANY), "name": (artist, ANY, ANY),
            "artist": ("", artist, ANY), "style": ("", ANY, desk.collection.labels[0]["style"]),
        }.items():  # fmt: skip
            heard[f"collection, {name}"] = self.press("browse", *fields)
            heard[f"collection, {name}, turned"] = self.press("turn", *fields, page=1)
        heard["mine"] = self.press("by_name", artist)
        heard["removed"] = self.press("removed")
        heard["ticked"] = self.press("tick", row=row, on=True)
        heard["artist's"] = self.press("filter", artist=artist) + self.press("rank")
        heard["artist's report"] = self.press("report")
        return heard


class Program:
    """A caller of the named endpoints, with a session of its own."""

    def __init__(self, demo, folder):
        self.client = Client(demo.local_url, verbose=False, download_files=folder)

    def call(self, name, *given, **named):
        """Call an endpoint, and give its answer, pictures in their pixels, or its refusal."""
        try:
            answer = self.client.predict(*given, **named, api_name=f"/{name}")
        except AppError as error:
            return str(error)
        parts = answer if isinstance(answer, tuple) else [answer]
        pictures = [Image.open(part) for part in parts if isinstance(part, str)]
        return json.dumps([answer, *map(png_of, pictures), *map(as_data, pictures)])

    def looks(self, desk, gone):
        """Ask everything that needs no long job, of the last answer."""
        best, artist = gone["best"], gone["artist"]
        return {
            "rank": self.call("rank", count=100),
            "rank, artist": self.call("rank", artist=artist),
            "look": self.call("look", best.index),
            "browse": self.call("browse", "", "", "", 100),
            "browse, caption": self.call("browse", best.caption, "", "", 100),
            "browse, name": self.call("browse", artist, "", "", 100),
            "browse, artist": self.call("browse", "", artist, "", 100),
            "browse, style": self.call("browse", "", "", desk.collection.labels[0]["style"]),
            "report": self.call("report"),
            "artist": self.call("artist", artist, None),
        }

    def asks(self, desk, gone, folder):
        """Ask everything else."""
        path = folder / "asked.png"
        ImageOps.mirror(desk.collection.image(gone["best"].index)).save(path)
        return {
            "generate": self.call("generate", gone["best"].caption, SEED),
            "trace": self.call("trace", handle_file(path), gone["best"].caption),
            "artist, picture": self.call("artist", "", handle_file(path)),
            "learn": self.call("learn", "thick outlines"),
            "own": self.call("rank", own_concept=1),
            "without row": self.call("without", gone["rows"][:1], ""),
            "without artist": self.call("without", [], gone["artist"]),
            "without": self.call("without", [desk.visible.rows()[0]], ""),
        }


@pytest.fixture(scope="module")
def heard(demo, desk, gone, requests, tmp_path_factory):
    """All that was answered before anybody asked to be left out, and after, to visitors old and new."""
    folder = tmp_path_factory.mktemp("downloads")
    visitor, program = Visitor(demo), Program(demo, folder)
    before = {f"page: {k}": v for k, v in visitor.looks(desk, gone).items()}
    before["generate"] = program.call("generate", gone["best"].caption, SEED)
    before |= program.looks(desk, gone)
    requests.write_text(json.dumps({"artists": [gone["artist"]], "files": gone["files"]}))
    after = {f"old page: {k}": v for k, v in visitor.looks(desk, gone).items()}
    after |= {f"new page: {k}": v for k, v in Visitor(demo).looks(desk, gone).items()}
    after["old page: without ticked"] = visitor.press("without")
    after["old page: without artist"] = visitor.press("without", gone["artist"])
    after["old page: without nobody"] = visitor.press("without", "nobody")
    after |= {f"old program: {k}": v for k, v in program.looks(desk, gone).items()}
    fresh = Program(demo, folder)
    after |= {f"new program: {k}": v for k, v in fresh.looks(desk, gone).items()}
    after |= {f"new program: {k}": v for k, v in fresh.asks(desk, gone, folder).items()}
    for path in ("", "config", "gradio_api/info", f"?artist={gone['artist']}"):
        after[f"/{path}"] = httpx.get(demo.local_url + path, timeout=PATIENCE).text
    return before, after


UNNAMED = {
    f"page: {place}" for place in ("example", "where", "removed")
}  # tell of no row whose it is


def test_before_they_ask_the_search_finds_them_everywhere(heard, secrets):
    before, _ = heard
    assert {place for place, text in before.items() if not betrayed(secrets, text)} == UNNAMED


def test_from_then_on_no_answer_names_or_shows_them(heard, secrets):
    _, after = heard
    assert {
        place: found for place, text in after.items() if (found := betrayed(secrets, text))
    } == {}


def test_what_is_withheld_is_counted(heard, gone):
    _, after = heard
    for whose in ("old", "new"):
        assert "withheld at their artists" in after[f"{whose} page: start"]
        assert "withheld at their artists" in after[f"{whose} page: ranking"]
        assert (
            f"{len(gone['rows'])} of the collection are" in after[f"{whose} page: collection, all"]
        )
        assert '"withheld": 0' not in after[f"{whose} program: rank"]
        assert '"artist": "withheld on request"' in after[f"{whose} program: report"]


def test_what_is_withheld_cannot_be_asked_for(heard, desk):
    _, after = heard
    refused = "this training picture is withheld"
    for place in ("page: closer", "page: where", "page: opened"):
        assert refused in after[f"old {place}"].lower()
    assert refused in after["old program: look"].lower()
    assert refused in after["new program: without row"].lower()
    for place in ("old page: without ticked", "old page: without artist", "new program: without artist"):  # fmt: skip
        assert "choose an artist who is shown" in after[place]


def test_a_withheld_name_is_answered_as_one_that_nobody_has(heard, desk):
    _, after = heard
    assert NOBODY in after["old page: artist's"]
    assert json.loads(after["old program: rank, artist"])[0]["sources"] == []
    for name in ("browse, artist", "browse, name"):
        assert json.loads(after[f"new program: {name}"]) == [[]]
    unknown = desk.seen(None, None, "Nobody Known", [], 1.0)
    assert desk.views.ranked(unknown).count(NOBODY) == 1
    assert NOBODY in desk.seen(None, None, "Nobody Known", [], 1.0).link().replace("+", " ")


def test_the_start_page_leaves_the_browsers_address_as_it_is(heard):
    _, after = heard
    linked = 'data-link=\\"?'
    assert linked in after["new page: ranking"]
    assert linked not in after["new page: start"]


def test_the_rest_still_answers(heard):
    _, after = heard
    for place in ("rank", "browse", "report"):
        assert json.loads(after[f"old program: {place}"])
    for place in ("generate", "trace", "learn", "own", "without"):
        assert json.loads(after[f"new program: {place}"])
    for place in ("start", "ranking", "report", "collection, all"):
        assert '"success":true' in after[f"new page: {place}"]


def test_while_the_list_cannot_be_read_nothing_is_shown_and_the_list_is_not_told(
    demo, requests, heard
):
    whole = requests.read_text()
    requests.write_text('{"photographers": ["Ann Miller"]}')
    try:
        for event in ("start", "rank", "browse"):
            answer = Visitor(demo).press(event)
            assert "The list of who is not to be shown cannot be read" in answer
            assert '"success":false' in answer
            assert not re.search(f"photographers|Miller|{requests}", answer)
    finally:
        requests.write_text(whole)
