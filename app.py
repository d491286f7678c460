"""The page, and the entry point of the Hugging Face Space: a picture in, ranked training images out.

In: a `Desk`, which answers. Out: `gr.Blocks`: the layout, which event leads to which answer, and the endpoints for
programs. It knows no method; what is shown is written by `attribution/page`.
"""

import html
import inspect
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.looks.examples import load_examples
from attribution.page.desk import ANY, Desk
from attribution.page.guards import Doors, guard_queue, is_wanted
from attribution.page.inputs import rows, whole, words
from attribution.page.served import served_folder
from attribution.page.session import COUNT, LAST_SEED, OWN, SEED, Session
from attribution.page.settings import Settings
from attribution.page.uploads import Uploads
from attribution.page.views import QUESTIONS, as_data
from attribution.pictures.collection import CONCEPTS

HOUR = 3600  # seconds that a visitor's answer, and the files made for it, are kept
CLEANING = 600  # seconds between two looks for what is older
OWN_SLOTS = 2  # sliders for concepts of one's own
RECENT = 8  # of a visitor's pictures, for the reverse question
MOST = 100  # training images that a program may ask for
STRIP = 10  # examples to choose from
AS_SENT = {"preprocess": False}  # else gradio's refusal of a name lists those it knew before
PROGRESS = gr.Progress()  # gradio tells the calls apart
FILES = Path(__file__).parent / "attribution/page"

TITLE = "Where does this picture come from?"
STOPPED = "Stopped. Nothing was changed."
SENTENCE = "Make or upload a picture, and see which training pictures, and whose, it leans on."


class Stopped(Exception):
    """A visitor stopped a long job."""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a mistake in the input into a message of one sentence."""
    try:
        yield
    except InputError as error:
        sentence = html.escape(f"{str(error)[:1].upper()}{str(error)[1:]}.")
        raise gr.Error(sentence, print_exception=False) from error
    except Stopped as error:
        raise gr.Error(STOPPED, print_exception=False) from error


def plainly(handler: Callable) -> Callable:
    """Make a handler's mistakes in the input messages; those of one that streams, too."""

    @wraps(handler)
    def answered(*given: Any, **named: Any) -> Any:
        with one_sentence():
            return handler(*given, **named)

    @wraps(handler)
    def streamed(*given: Any, **named: Any) -> Iterator:
        with one_sentence():
            yield from handler(*given, **named)

    return streamed if inspect.isgeneratorfunction(handler) else answered


def on_gpu(handler: Callable) -> Callable:
    """Borrow a GPU for a handler on a ZeroGPU Space; anywhere else leave it as it is."""
    try:
        import spaces
    except ImportError:
        return handler
    return spaces.GPU(duration=60)(handler)


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody presses, moves or chooses something."""

    desk: Desk
    limit: float = 120  # seconds that a long job may take
    stops: dict[str, threading.Event] = field(default_factory=dict)  # of visitors' long jobs
    uploads: Uploads = field(default_factory=Uploads)

    def steps(
        self, request: gr.Request, progress: gr.Progress | None = None, said: str = "",
        limit: float = math.inf,
    ) -> Callable:  # fmt: skip
        """Tell a job's progress, and end it when its visitor says so or left, or its time is over."""
        stop = self.stops.setdefault(request.session_hash or "", threading.Event())
        stop.clear()
        end = time.monotonic() + limit
        demo, event = LocalContext.blocks.get(None), LocalContext.event_id.get(None)

        def on_step(done: int, total: int) -> None:
            if stop.is_set() or (demo and not is_wanted(demo, event)):
                raise Stopped
            if time.monotonic() > end:
                raise InputError(f"this took longer than {limit:.0f} seconds; ask for less")
            if progress is not None:  # one that has told nothing is falsy
                progress((done, total), desc=said)

        return on_step

    def stop(self, request: gr.Request) -> None:
        """Stop a visitor's long job."""
        if request.session_hash in self.stops:
            self.stops[request.session_hash].set()

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor."""
        self.stop(request)
        self.stops.pop(request.session_hash, None)
        self.uploads.clear(request.session_hash)

    # Asking

    @plainly
    def accept(self, upload: dict | None, request: gr.Request) -> dict:
        """Read an upload as soon as it arrives, and show its pixels; the picture stays with its visitor."""
        name = (upload or {}).get("path")
        picture = self.uploads.take(request.session_hash, name)
        return {"path": name, "url": as_data(picture.image), "orig_name": "the upload"}

    def clear(self, request: gr.Request) -> None:
        """Forget a visitor's upload."""
        self.uploads.clear(request.session_hash)

    @plainly
    def generate(
        self, prompt: str, seed: float, own: list, method: str, request: gr.Request, *picks: str,
        progress: gr.Progress = PROGRESS,
    ) -> Iterator[tuple]:  # fmt: skip
        """Draw a picture, show it, attribute it, show the answer."""
        progress(0, desc="Drawing")
        on_step = self.steps(request, progress, "Drawing")
        image, prompt, seed = self.desk.draw(prompt, seed, on_step)
        yield gr.skip(), self.desk.views.drawn(image, prompt)
        progress(None, desc="Comparing with every training picture")
        session = self.desk.attribute(image, prompt, seed, picks, own, method)
        yield session, self.desk.views.asked(session)

    @plainly
    def trace(
        self, upload: dict | None, prompt: str, own: list, method: str, request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[Session, str]:  # fmt: skip
        """Attribute the visitor's upload, which may just be arriving."""
        progress(None, desc="Comparing with every training picture")
        picture = self.uploads.take(request.session_hash, (upload or {}).get("path"))
        credentials = self.desk.views.credentials(picture.credentials)
        session = self.desk.attribute(picture.image, prompt, None, (), own, method, credentials)
        return session, self.desk.views.asked(session)

    @plainly
    def choose(self, event: gr.EventData) -> tuple:
        """Open an example, whose answer is known."""
        number = self.sent(event, "example", len(self.desk.examples))
        session = self.desk.opened(number)
        return session, self.desk.views.asked(session), session.prompt, session.seed

    @plainly
    def open_drawn(self, recent: list, event: gr.EventData) -> tuple:
        """Open an example, or one of the visitor's own pictures, from the collection's tab."""
        known = len(self.desk.examples)
        number = self.sent(event, "drawn", known + len(recent))
        session = self.desk.opened(number) if number < known else recent[number - known]
        return session, self.desk.views.asked(session), session.prompt, gr.Tabs(selected="trace")

    def sent(self, event: gr.EventData, name: str, count: int) -> int:
        """Read a number that came with an event."""
        data = event._data if isinstance(event._data, dict) else {}
        return whole(data.get(name), f"the {name}", 0, count - 1)

    def keep(self, session: Session | None, recent: list) -> tuple:
        """Keep a visitor's last pictures, and begin to look at a new one without filter or ticks."""
        kept = [*recent, session][-RECENT:] if session and session.example is None else recent
        return kept, "", [], None, None, gr.Column(visible=False), ""

    @plainly
    def start(self, session: Session | None) -> tuple:
        """Fill the page for a visitor with what may be shown now: no row is in it before."""
        desk, views, names = self.desk, self.desk.views, self.desk.visible.names
        lists = [gr.Dropdown([ANY, *names(column)]) for column in ("artist", "artist", "style")]
        if session:  # their own picture was quicker
            answer = [gr.skip()] * 4
        elif desk.examples:
            seen = desk.seen(None, None, "", [], 1.0)
            ranked = views.ranked(seen, linked=False)  # the address is still the visitor's own
            answer = gr.skip(), ranked, views.artists(seen), views.as_table(seen)
        else:
            answer = views.welcome(), "", "", ""
        return *answer, *lists, desk.browse("", "", "", 1)

    @plainly
    def arrive(self, request: gr.Request) -> tuple:
        """Restore what a link says: prompt, seed, mix and artist."""
        query = dict(request.query_params)
        amounts = [float(name == GENERAL) for name in QUESTIONS.values()]
        if any(name in query for name in QUESTIONS.values()):
            try:
                amounts = [float(query.get(name, 0)) for name in QUESTIONS.values()]
            except ValueError as error:
                raise InputError("the link's sliders are no numbers; copy it again") from error
            amounts = [amount if 0 <= amount <= 1 else 0.0 for amount in amounts]
        prompt = words(query.get("prompt"), "the link's prompt")
        seed = whole(query.get("seed", SEED), "the link's seed", 0, LAST_SEED)
        artist = words(query.get("artist"), "the artist", 200)
        wanted = f"{prompt} {seed}" if prompt else gr.skip()
        return prompt, seed, artist, wanted, *amounts

    # Looking

    @plainly
    def rank(self, ticked: list, *looking: Any) -> tuple[str, str, str]:
        """Show ranking, artists and table for what the visitor looks at, from the scores at hand."""
        seen, views = self.desk.seen(*looking), self.desk.views
        return views.ranked(seen, ticked), views.artists(seen), views.as_table(seen)

    @plainly
    def mark(self, session: Session | None) -> Any:
        """Compare the picture plainly, and trace it again under other noise."""
        return self.desk.mark(session)

    @plainly
    def compare_by(self, question: str) -> list[float]:
        """Set the sliders to one question alone."""
        if question not in QUESTIONS:
            return [gr.skip()] * (len(QUESTIONS) + OWN_SLOTS)
        return [float(name == question) for name in QUESTIONS] + [0.0] * OWN_SLOTS

    @plainly
    def filter(self, event: gr.EventData) -> str:
        """Show one artist's pictures alone, or all."""
        data = event._data if isinstance(event._data, dict) else {}
        return words(data.get("artist"), "the artist", 200)

    @plainly
    def tick(self, ticked: list, event: gr.EventData) -> tuple[list, str]:
        """Note that a training image is to be left out, or not."""
        row = self.sent(event, "row", len(self.desk.collection))
        kept = [r for r in ticked if r != row] + [row] * bool(event._data.get("on"))
        return kept, f"{len(kept)} ticked"

    @plainly
    def closer(self, event: gr.EventData, *looking: Any) -> tuple:
        """Look closer at one training image."""
        row = self.sent(event, "row", len(self.desk.collection))
        return row, gr.Column(visible=True), self.desk.closer(self.desk.seen(*looking), row), ""

    @plainly
    def closer_again(self, row: int | None, *looking: Any) -> str:
        """Look at the same training image under another mix."""
        return gr.skip() if row is None else self.desk.closer(self.desk.seen(*looking), row)

    @plainly
    def where(self, row: int | None, *looking: Any) -> str:
        """Draw where the evidence for the training image that is looked at lies."""
        return gr.skip() if row is None else self.desk.where(self.desk.seen(*looking), row)

    # Long jobs

    @plainly
    def learn(
        self, phrase: str, own: list, session: Session | None, request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple:  # fmt: skip
        """Learn a concept of the visitor's own, and give it a slider."""
        on_step = self.steps(request, progress, "Learning the concept", self.limit)
        try:
            concept = self.desk.learn(phrase, on_step)
        except Stopped:
            rest = [gr.skip()] * (1 + len(QUESTIONS) + OWN_SLOTS)
            return gr.skip(), gr.skip(), self.desk.views.message(STOPPED), *rest
        own = [*(c for c in own if c.phrase != concept.phrase), concept][-OWN_SLOTS:]
        session = session or self.desk.first()
        for each in own:
            if session and OWN + each.phrase not in session.answer.scores:
                session = self.desk.asked_more(session, each)
        sliders = [
            gr.Slider(visible=i < len(own), label=own[i].phrase if i < len(own) else "", value=float(i == len(own) - 1))
            for i in range(OWN_SLOTS)
        ]  # fmt: skip
        return (
            own,
            session,
            self.desk.views.learned(concept),
            None,
            *[0.0] * len(QUESTIONS),
            *sliders,
        )

    @plainly
    def without(
        self, session: Session | None, ticked: list, artist: str, request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> str:  # fmt: skip
        """Draw the picture again without some training images."""
        left_out = self.desk.left_out(ticked, artist)
        try:
            found = self.desk.without(
                session, left_out, self.steps(request, progress, "Forgetting", self.limit)
            )
        except Stopped:
            return self.desk.views.message(STOPPED)
        return self.desk.views.what_if(found, left_out)

    # Taking along, browsing

    @plainly
    def report(self, *looking: Any) -> str:
        """Write the report, as links that hold it."""
        return self.desk.taken(self.desk.seen(*looking))

    @plainly
    def browse(self, text: str, artist: str, style: str, page: int = 1) -> str:
        """Search the collection."""
        return self.desk.browse(text, artist, style, page)

    @plainly
    def turn(self, text: str, artist: str, style: str, event: gr.EventData) -> str:
        """Show another page of the collection."""
        return self.desk.browse(text, artist, style, self.sent(event, "page", 1_000_000))

    @plainly
    def open(self, recent: list, event: gr.EventData) -> str:
        """Show a training image and what leans on it."""
        row = self.sent(event, "row", len(self.desk.collection))
        return self.desk.open(row, recent, {GENERAL: 1.0})

    # For programs

    def call_generate(self, prompt: str, seed: float, method: str, request: gr.Request) -> tuple:
        """Draw a picture from a prompt and a seed, and rank the training images behind it."""
        image, prompt, seed = self.desk.draw(prompt, seed, self.steps(request))
        session = self.desk.attribute(image, prompt, seed, (), [], method)
        return session, image, self.desk.as_json(session, COUNT)

    def call_trace(self, upload: dict | None, prompt: str, method: str, request: gr.Request) -> tuple:  # fmt: skip
        """Rank the training images behind a picture, which is never stored and is forgotten once it was read."""
        try:
            picture = self.uploads.take(request.session_hash, (upload or {}).get("path"))
        finally:
            self.uploads.clear(request.session_hash)
        session = self.desk.attribute(picture.image, prompt, None, (), [], method)
        said = picture.credentials
        return session, self.desk.as_json(session, COUNT) | {"credentials": said and vars(said)}

    def call_rank(
        self, session: Session | None, own: list, general: float = 1, subject: float = 0,
        style: float = 0, background: float = 0, own_concept: float = 0, count: int = COUNT,
        artist: str = "",
    ) -> dict:  # fmt: skip
        """Rank for another mix of questions, from the last answer's scores; `own_concept` is the last one learned."""
        amounts = [general, subject, style, background, *[0.0] * (len(own) - 1), own_concept]
        seen = self.desk.seen(session, None, artist, own, *amounts)
        return self.desk.as_json(seen, whole(count, "the count", 1, MOST))

    def call_learn(
        self, phrase: str, own: list, session: Session | None, request: gr.Request
    ) -> tuple:
        """Learn weights for a phrase (half a minute); `rank` takes it as `own_concept`."""
        concept = self.desk.learn(phrase, self.steps(request, limit=self.limit))
        session = session or self.desk.first()
        if session is None:
            raise InputError("make or upload a picture first")
        about = {"phrase": concept.phrase, "unknown_words": list(concept.unknown_words)}
        return [*own, concept][-OWN_SLOTS:], self.desk.asked_more(session, concept), about

    def call_without(
        self, session: Session | None, left_out: list, artist: str, request: gr.Request
    ) -> tuple:
        """Draw the last picture again by a model that was made to forget training images (their rows) or an artist."""
        ticked = rows(left_out or [], len(self.desk.collection))
        ticked = [self.desk.visible.shown(row) for row in ticked]
        chosen = self.desk.left_out(ticked, artist)
        found = self.desk.without(session, chosen, self.steps(request, limit=self.limit))
        return (
            found.before,
            found.after,
            found.control,
            {**{k: v for k, v in vars(found).items() if isinstance(v, float | list)}},
        )

    def call_look(
        self, session: Session | None, row: float, general: float = 1, subject: float = 0,
        style: float = 0, background: float = 0,
    ) -> dict:  # fmt: skip
        """Tell which layers and noise levels spoke for one training image of the last answer."""
        seen = self.desk.seen(session, None, "", [], general, subject, style, background)
        return self.desk.spoken(seen, whole(row, "the row", 0, len(self.desk.collection) - 1))

    def call_browse(self, text: str, artist: str, style: str, count: int = COUNT) -> list:
        """Search the collection's captions and labels."""
        found, _ = self.desk.search(text, artist, style)
        return [self.desk.row_json(row) for row in found[: whole(count, "the count", 1, MOST)]]

    def call_report(
        self, session: Session | None, general: float = 1, subject: float = 0, style: float = 0,
        background: float = 0,
    ) -> dict:  # fmt: skip
        """Write the last answer's report; `python -m precompute verify` checks it."""
        return self.desk.report(
            self.desk.seen(session, None, "", [], general, subject, style, background)
        )


def read_file(name: str) -> str:
    """Read a file of the page: its style, or what runs in the browser."""
    return (FILES / name).read_text()


def live(value: str, name: str, **options: Any) -> gr.HTML:
    """Make HTML whose buttons and boxes send events: page.js tells which."""
    listen = "page.listen(element, trigger, watch, ['look', 'artist', 'turn', 'tick', 'example', 'drawn'])"
    return gr.HTML(value, elem_id=name, js_on_load=listen, **options)


def lay_out_ways(do: Handlers) -> SimpleNamespace:
    """Lay out the three ways in: an example, a description, an upload."""
    desk = do.desk
    collection = desk.collection
    with gr.Tabs(elem_id="ways"):
        if desk.examples:
            with gr.Tab("Examples"):
                strip = live(desk.views.strip(desk.chosen(STRIP), desk.examples), "strip")
        with gr.Tab("Describe"):
            with gr.Row(elem_id="picks"):
                picks = [
                    gr.Dropdown(
                        [ANY, *collection.concepts.get(c, {})], label=c.capitalize(), min_width=110
                    )
                    for c in CONCEPTS
                ]
                limits = {"precision": 0, "minimum": 0, "maximum": LAST_SEED}
                seed = gr.Number(SEED, label="Seed", min_width=90, **limits)
            with gr.Row(equal_height=True):
                hint = desk.examples[desk.chosen(1)[0]].prompt if desk.examples else None
                prompt = gr.Textbox(label="Describe it", placeholder=hint, scale=5, max_length=1000)
                make = gr.Button("Generate", variant="primary", min_width=120)
        with gr.Tab("Upload"), gr.Row():
            kinds = {"sources": ["upload", "clipboard"], "format": "png"}
            kinds |= {"label": "JPEG, PNG or WebP; never stored"}
            upload = gr.Image(buttons=[], height=190, alt_text="The upload", **kinds)
            with gr.Column():
                said = gr.Textbox("", label="Its prompt, if you know it", max_length=1000)
                follow = gr.Button("Trace", variant="primary")
    methods = list(desk.by_method)
    method = gr.Dropdown(methods, value=methods[0], label="Method", visible=len(methods) > 1)
    return SimpleNamespace(**locals())


def lay_out_answer(do: Handlers) -> SimpleNamespace:
    """Lay out the answer, with the first example's picture already in it."""
    first, views = do.desk.first(), do.desk.views
    with gr.Row(elem_id="answer"):
        with gr.Column(scale=1, min_width=250, elem_classes="stays"):
            asked = live(views.asked(first) if first else "", "asked")
        with gr.Column(scale=3, min_width=300):
            question = gr.Radio(
                list(QUESTIONS), value="Whole picture", label="Compare by", elem_id="question"
            )
            with gr.Row(elem_id="sliders"):
                options = {"step": 0.05, "min_width": 120, "buttons": []}
                sliders = [
                    gr.Slider(0, 1, float(c == GENERAL), label=q, **options)
                    for q, c in QUESTIONS.items()
                ]
                owned = [
                    gr.Slider(0, 1, 0, label="your own", visible=False, **options)
                    for _ in range(OWN_SLOTS)
                ]
            with gr.Accordion("A concept of your own", open=False, elem_id="own"):
                with gr.Row(equal_height=True):
                    phrase = gr.Textbox(
                        label="A phrase, such as “thick outlines”", max_length=100, scale=4
                    )
                    learn = gr.Button("Learn it", min_width=110)
                    halt = gr.Button("Stop", min_width=80)
                learned = gr.HTML(elem_id="learned")
            ranked = live("", "ranked")
    with gr.Column(visible=False, elem_id="detail") as detail:
        closer = live("", "closer")
        heat = gr.HTML(elem_id="heat", min_height=60)
    with gr.Tabs(elem_id="more"):
        with gr.Tab("Artists"):
            artists = live("", "artists")
        with gr.Tab("What if"):
            gr.HTML(views.explained("what_if"))
            with gr.Row(equal_height=True):
                count = gr.Textbox(
                    "0 ticked", label="Ticked above", interactive=False, min_width=90
                )
                whose = gr.Dropdown([ANY], label="or everything by", min_width=200)
                forget = gr.Button("Make it without these", variant="primary", min_width=180)
                cease = gr.Button("Stop", min_width=80)
            different = gr.HTML(elem_id="different", min_height=60)
        with gr.Tab("Report"):
            gr.HTML(views.explained("take"))
            prepare = gr.Button("Prepare the report", variant="primary")
            taken = live("", "taken", min_height=60)
        with gr.Tab("Table"):
            table = gr.HTML(elem_id="table")
    return SimpleNamespace(**locals())


def lay_out_collection() -> SimpleNamespace:
    """Lay out the collection's tab."""
    with gr.Row():
        text = gr.Textbox(label="Search captions", scale=2, max_length=200, elem_id="search")
        artist = gr.Dropdown([ANY], label="Artist", min_width=150)
        style = gr.Dropdown([ANY], label="Style", min_width=150)
    opened = live("", "opened")
    found = live("", "found")
    return SimpleNamespace(**locals())


HEAVY = {"concurrency_id": "model", "concurrency_limit": 1}  # one at a time on the model
LONG = {"concurrency_id": "long", "concurrency_limit": 1}  # on a copy, and in nobody's way
LIGHT = {"concurrency_id": "light", "concurrency_limit": 8}
PRIVATE = {"api_visibility": "private"}
QUICK = LIGHT | PRIVATE | {"show_progress": "hidden"}
RAW = {"preprocess": False}  # else gradio opens an upload before the handler can refuse it


def connect_asking(
    do: Handlers, given: SimpleNamespace, shown: SimpleNamespace, states: SimpleNamespace,
    collection: SimpleNamespace, tabs: gr.Tabs, ranking: dict,
) -> None:  # fmt: skip
    """Lead each way in to an answer."""
    answer, heavy = [states.session, shown.asked], HEAVY | PRIVATE
    status = {"show_progress_on": shown.asked}
    for pick in given.picks:
        pick.input(do.desk.build, given.picks, given.prompt, **QUICK)
    asking = [given.prompt, given.seed, states.own, given.method, *given.picks]
    ways = [given.make.click, given.prompt.submit, states.wanted.change]
    made = gr.on(ways, on_gpu(do.generate), asking, answer, **heavy, **status)
    arriving = {**LIGHT, **PRIVATE, **RAW, "postprocess": False}
    arrived = given.upload.upload(do.accept, given.upload, given.upload, **arriving)
    arrived.failure(lambda: None, None, given.upload, **QUICK)
    given.upload.clear(do.clear, None, given.upload, **QUICK)
    asking = [given.upload, given.said, states.own, given.method]
    followed = given.follow.click(on_gpu(do.trace), asking, answer, **heavy, **status, **RAW)
    drawn = [*answer, given.prompt, tabs]
    drawn = collection.opened.drawn(do.open_drawn, states.recent, drawn, **QUICK)
    events = [made, followed, drawn]
    if do.desk.examples:
        opened = [*answer, given.prompt, given.seed]
        events.append(given.strip.example(do.choose, None, opened, **QUICK))
    kept = [states.recent, states.artist, states.ticked, states.marks, states.looked_at]
    kept = {"outputs": [*kept, shown.detail, shown.count], **QUICK}
    marking = {"inputs": states.session, "outputs": states.marks, "show_progress": "hidden"}
    for event in events:
        settled = event.success(do.keep, [states.session, states.recent], **kept)
        settled = settled.success(**ranking)
        settled.success(on_gpu(do.mark), **marking, **heavy).success(**ranking)


def connect_looking(
    do: Handlers, shown: SimpleNamespace, states: SimpleNamespace, looking: list, ranking: dict
) -> None:
    """Let a visitor change the mix, choose an artist, look closer."""
    sliders = [*shown.sliders, *shown.owned]
    moves = [slider.input for slider in sliders]
    moving = gr.on(moves, trigger_mode="always_last", **ranking)
    gr.on(moves, None, None, shown.question, js="() => null")
    compared = shown.question.input(do.compare_by, shown.question, sliders, **QUICK)
    compared = compared.success(**ranking)
    for part in (shown.ranked, shown.artists):
        part.artist(do.filter, None, states.artist, **QUICK).success(**ranking)
    one_by_one = QUICK | {
        "concurrency_id": "tick",
        "concurrency_limit": 1,
    }  # else two would both add to the same list
    counted = [states.ticked, shown.count]
    shown.ranked.tick(do.tick, states.ticked, counted, **one_by_one, trigger_mode="multiple")
    seen = [states.looked_at, shown.detail, shown.closer, shown.heat]
    looked = shown.ranked.look(do.closer, looking, seen, **QUICK)
    asking = {"inputs": [states.looked_at, *looking]}
    where = {"fn": on_gpu(do.where), "outputs": shown.heat, **asking, **HEAVY, **PRIVATE}
    looked.success(**where)
    for event in (moving, compared):
        event.success(do.closer_again, outputs=shown.closer, **asking, **QUICK).success(**where)


def connect_long(
    do: Handlers, shown: SimpleNamespace, states: SimpleNamespace, looking: list, ranking: dict
) -> None:
    """Let a visitor learn a concept, leave images out, and take the answer along."""
    learned = gr.on(
        [shown.learn.click, shown.phrase.submit], on_gpu(do.learn),
        [shown.phrase, states.own, states.session],
        [states.own, states.session, shown.learned, shown.question, *shown.sliders, *shown.owned],
        show_progress_on=shown.learned, **LONG, **PRIVATE,
    )  # fmt: skip
    learned.success(**ranking)
    shown.forget.click(
        on_gpu(do.without), [states.session, states.ticked, shown.whose], shown.different,
        show_progress_on=shown.different, **LONG, **PRIVATE, **AS_SENT,
    )  # fmt: skip
    for button in (shown.halt, shown.cease):
        button.click(do.stop, None, None, **QUICK)
    shown.prepare.click(do.report, looking, shown.taken, **LIGHT, **PRIVATE)


def connect_collection(do: Handlers, collection: SimpleNamespace, states: SimpleNamespace) -> None:
    """Let a visitor search the collection and open its images."""
    fields = [collection.text, collection.artist, collection.style]
    for event in (collection.text.change, collection.artist.input, collection.style.input):
        event(do.browse, fields, collection.found, trigger_mode="always_last", **QUICK, **AS_SENT)
    collection.found.turn(do.turn, fields, collection.found, **QUICK, **AS_SENT)
    collection.found.look(do.open, states.recent, collection.opened, **QUICK)


def offer(
    do: Handlers, given: SimpleNamespace, shown: SimpleNamespace, states: SimpleNamespace
) -> None:
    """Name the endpoints that programs may call; each caller has a session of their own."""
    call, picture = gr.Button(visible=False), {"visible": False, "format": "png", "type": "pil"}
    picture, before, after, control = (gr.Image(label=n, **picture) for n in ("Picture", "Before", "After", "Control"))  # fmt: skip
    answer = gr.JSON(visible=False, label="Answer")
    left_out = gr.JSON(visible=False, label="Rows")
    text = {n: gr.Textbox("", visible=False, label=n) for n in ("Prompt", "Method", "Artist", "Style", "Phrase", "Text")}  # fmt: skip
    number = {n: gr.Number(v, visible=False, label=n) for n, v in (("Seed", SEED), ("Count", COUNT), ("Row", 0))}  # fmt: skip
    upload = gr.Image(visible=False, label="Upload")
    mix = [gr.Number(float(n == GENERAL), visible=False, label=n) for n in [*QUESTIONS.values(), "own concept"]]  # fmt: skip
    session, own = states.session, states.own
    endpoints = (
        (do.call_generate, [text["Prompt"], number["Seed"], text["Method"]], [session, picture, answer], HEAVY),
        (do.call_trace, [upload, text["Prompt"], text["Method"]], [session, answer], HEAVY | RAW),
        (do.call_rank, [session, own, *mix, number["Count"], text["Artist"]], answer, LIGHT),
        (do.call_learn, [text["Phrase"], own, session], [own, session, answer], LONG),
        (do.call_without, [session, left_out, text["Artist"]], [before, after, control, answer], LONG),
        (do.call_look, [session, number["Row"], *mix[:-1]], answer, LIGHT),
        (do.call_browse, [text["Text"], text["Artist"], text["Style"], number["Count"]], answer, LIGHT),
        (do.call_report, [session, *mix[:-1]], answer, LIGHT),
    )  # fmt: skip
    for handler, inputs, outputs, options in endpoints:
        name = handler.__name__.removeprefix("call_")
        call.click(on_gpu(plainly(handler)), inputs, outputs, api_name=name, **options)


def create_demo(do: Handlers) -> gr.Blocks:
    """Lay out the page, and connect it."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(CLEANING, HOUR)) as demo:
        state = {"time_to_live": HOUR}
        states = SimpleNamespace(
            session=gr.State(**state), marks=gr.State(**state), own=gr.State([], **state),
            recent=gr.State([], **state), ticked=gr.State([], **state),
            looked_at=gr.State(**state), artist=gr.State("", **state), wanted=gr.Textbox("", visible=False),
        )  # fmt: skip
        gr.HTML(f"<h1>{TITLE}</h1><p>{SENTENCE}</p>", elem_id="title")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Trace", id="trace"):
                given = lay_out_ways(do)
                shown = lay_out_answer(do)
            with gr.Tab("Collection", id="collection"):
                collection = lay_out_collection()
            with gr.Tab("What it can tell", id="limits"):
                gr.HTML(do.desk.views.limits(), elem_id="limits")
        sliders = [*shown.sliders, *shown.owned]
        looking = [states.session, states.marks, states.artist, states.own, *sliders]
        ranking = {"fn": do.rank, "inputs": [states.ticked, *looking], **QUICK}
        ranking |= {"outputs": [shown.ranked, shown.artists, shown.table]}
        offer(do, given, shown, states)  # first, so that programs get the names
        connect_asking(do, given, shown, states, collection, tabs, ranking)
        connect_looking(do, shown, states, looking, ranking)
        connect_long(do, shown, states, looking, ranking)
        connect_collection(do, collection, states)
        restored = [given.prompt, given.seed, states.artist, states.wanted, *shown.sliders]
        filled = [shown.asked, shown.ranked, shown.artists, shown.table, shown.whose]
        filled += [collection.artist, collection.style, collection.found]
        demo.load(do.start, states.session, filled, **QUICK)
        demo.load(do.arrive, None, restored, api_visibility="private", show_progress="hidden")
        demo.unload(do.leave)
    return demo


def serve(
    do: Handlers, host: str, port: int, settings: Settings | None = None, block: bool = True
) -> gr.Blocks:
    """Serve the page; no file of this machine is open but pictures that were drawn for programs."""
    settings = settings or Settings()
    most = settings.max_upload_mb * 2**20
    doors = Middleware(
        Doors, uploads=do.uploads, most_upload=most, served=Path(get_upload_folder()),
        script=read_file("page.js"), tools=settings.mcp,
    )  # fmt: skip
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none to download
    demo = create_demo(do)
    demo.queue(max_size=None, default_concurrency_limit=8)
    guard_queue(demo, settings.queue_size)
    demo.launch(
        server_name=host, server_port=port, prevent_thread_lock=not block,
        css=read_file("page.css"), head=f"<script>{read_file('page.js')}</script>",
        theme=gr.themes.Base(primary_hue="teal", neutral_hue="stone", **fonts),
        allowed_paths=[], max_file_size=most, state_session_capacity=1000,
        show_error=False, run_history=False, enable_monitoring=False, footer_links=[],
        ssr_mode=False, share=False, mcp_server=settings.mcp,
        app_kwargs={"middleware": [doors]},
    )  # fmt: skip
    return demo


def load(settings: Settings) -> Handlers:
    """Load what the settings name; the examples only where they are."""
    first, *rest = settings.cache
    attributor = Attributor.from_pretrained(
        settings.model, first, settings.collection, settings.device, settings.opt_out or None
    )
    others = tuple(attributor.with_cache(folder) for folder in rest)
    folder = Path(settings.examples)
    examples = tuple(load_examples(folder, attributor)) if folder.is_dir() else ()
    return Handlers(Desk(attributor, others, examples), settings.time_limit)


def main() -> int:
    """Serve the page until stopped; 2 is the exit code of a mistake in the input, 128 and more of a signal."""
    read, signals = os.environ.get, []

    def on_signal(number: int, _: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    anywhere = "0.0.0.0"  # noqa: S104, a Space is reached from outside its container
    host = read("GRADIO_SERVER_NAME") or (anywhere if "SPACE_ID" in os.environ else "127.0.0.1")
    port = read("GRADIO_SERVER_PORT") or "7860"
    try:
        if not port.isdecimal():
            raise InputError(f"GRADIO_SERVER_PORT is {port!r}; give the number of a port")
        settings = Settings.from_environment()
        with served_folder() as folder:
            os.environ["GRADIO_TEMP_DIR"] = str(folder)
            serve(load(settings), host, int(port), settings)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass  # gradio, too, ends quietly
    return 128 + signals[0] if signals else 0


def leave(code: int) -> None:
    """End at once: threads that still compute would abort an interpreter that waits for none of them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
