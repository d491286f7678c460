"""The way in: words to draw from, a picture to trace, or an example whose answer is known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from attribution.page.desk import Desk
from attribution.page.events import (
    HEAVY,
    LIGHT,
    NEWEST,
    PRIVATE,
    PROGRESS,
    QUICK,
    RAW,
    STOPPED,
    live,
    numbered,
    on_gpu,
    plainly,
    sent,
)
from attribution.page.guards import data_of
from attribution.page.hall import Asking, Hall
from attribution.page.language import say
from attribution.page.session import LAST_SEED, SEED, Session
from attribution.page.states import States
from attribution.page.vocabulary import with_word

STRIP = 10  # examples to choose from
DRAW, TRACE = "Generate", "Trace"
ASKED = {"prompt": "Describe a picture", "label": "A class, a name or a number", "nothing": ""}


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    prompt: gr.Textbox
    seed: gr.Number
    make: gr.Button  # or trace, once there is a picture
    stop: gr.Button
    brought: gr.HTML
    upload: gr.Image  # which nobody sees
    told: gr.HTML
    known: gr.Textbox  # the words of all captions, which nobody sees
    unknown: gr.HTML
    words: gr.HTML
    strip: gr.HTML

    @property
    def shows(self) -> list[Component]:
        """Give what shows whether there is a picture in the box."""
        return [self.brought, self.make]


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody asks about a picture."""

    hall: Hall
    ask_own: Asking  # what a known picture was not asked yet

    @plainly
    def accept(
        self, upload: dict | None, prompt: object, session: Session | None, request: gr.Request
    ) -> tuple:
        """Read an upload as soon as it arrives; words that told of another picture do not tell of it."""
        name = (upload or {}).get("path")
        picture = self.hall.uploads.take(request.session_hash, name)
        told = session or self.hall.desk.first()
        prompt = "" if told and prompt == told.prompt else prompt
        return (
            None,
            name,
            self.hall.desk.views.brought(picture.image),
            gr.Button(say(TRACE)),
            prompt,
        )

    def clear(self, request: gr.Request) -> tuple:
        """Forget a visitor's upload."""
        self.hall.uploads.clear(request.session_hash)
        return None, self.hall.desk.views.brought(None), gr.Button(say(DRAW))

    @plainly
    def begin(self, turn: object, request: gr.Request) -> None:
        """Note that a newer question came, wherever an older one waits."""
        self.hall.newest(request, turn)

    @plainly
    def halt(self, session: Session | None, turn: object, request: gr.Request) -> tuple:
        """Take the question back, show the picture before it again, and say so."""
        views, in_time = self.hall.desk.views, self.hall.take_back(request, turn)
        if not in_time:
            return views.message(say("It was there already.")), gr.skip()
        return views.message(say(STOPPED)), views.asked(session) if session else gr.skip()

    @plainly
    def answer(
        self, upload: str | None, prompt: object, seed: object, own: list, method: object, turn: object,
        request: gr.Request, progress: gr.Progress = PROGRESS,
    ) -> Iterator[tuple]:  # fmt: skip
        """Trace the visitor's picture, or draw one and show it first; then show the answer."""
        desk, credentials = self.hall.desk, None
        on_step, on_wait = self.hall.asking(request, turn, progress)
        known = None if upload else desk.known_example(prompt, seed, method)
        if known is not None:
            session = desk.joined(desk.opened(known), own, on_wait)
            yield session, desk.views.asked(session)
            return
        if upload:
            picture = self.hall.uploads.take(request.session_hash, upload)
            image, seed, credentials = picture.image, None, picture.credentials
        else:
            progress(0, desc=say("Drawing"))
            image, prompt, seed = desk.draw(prompt, seed, on_step, on_wait)
            self.hall.newest(request, turn)
            yield gr.skip(), desk.views.drawn(image, prompt)
        session = desk.attribute(image, prompt, seed, own, method, credentials, on_wait)
        self.hall.answers(request, turn)
        yield session, desk.views.asked(session)

    @plainly
    def choose(self, own: list, turn: object, event: gr.EventData, request: gr.Request) -> tuple:
        """Open an example, whose answer is known."""
        desk = self.hall.desk
        self.hall.newest(request, turn)
        session = desk.opened(sent(event, "example", len(desk.examples)))
        session = self.hall.opened(session, own, self.ask_own, request, turn)
        return session, desk.views.asked(session), session.prompt, session.seed, *self.clear(request)  # fmt: skip

    @plainly
    def word(self, prompt: object, event: gr.EventData) -> str:
        """Put a word that was pressed into the prompt, or take it out."""
        said = data_of(event)
        desk = self.hall.desk
        concept, value = said.get("concept"), said.get("word")
        return with_word(desk.collection, prompt, concept, value, desk.max_prompt)


def lay_out(desk: Desk) -> Parts:
    """Lay out one box and what may be put into it."""
    views, reads = desk.views, desk.choices.reads
    hint = desk.first()
    with gr.Row(elem_id="ask", equal_height=True):
        prompt = gr.Textbox(
            hint.prompt if hint else "", label=say(ASKED[reads]), max_length=desk.max_prompt, scale=6,
            min_width=200, visible=reads != "nothing",
        )  # fmt: skip
        limits = {"precision": 0, "minimum": 0, "maximum": LAST_SEED}
        start = hint.seed if hint else SEED
        seed = gr.Number(start, label=say("Seed"), min_width=96, scale=0, **limits)
        make = gr.Button(say(DRAW), variant="primary", min_width=110, scale=0, elem_id="make")
        stop = gr.Button(say("Stop"), min_width=110, scale=0, elem_id="halt")
        brought = live(views.brought(None), "brought")
    upload = gr.Image(sources=["upload"], format="png", buttons=[], elem_id="upload")
    told, unknown = (gr.HTML(elem_id=name) for name in ("told", "unknown"))
    known = gr.Textbox("", visible=False)
    words = live(views.words(), "words", visible=bool(desk.choices.words))
    strip = live(
        views.strip(desk.chosen(STRIP), desk.examples), "strip", visible=bool(desk.examples)
    )
    return Parts(prompt, seed, make, stop, brought, upload, told, known, unknown, words, strip)


def connect(
    hall: Hall, parts: Parts, asked: gr.HTML, method: gr.Dropdown, states: States
) -> list[Dependency]:
    """Lead each way to an answer; give the events that bring one, that of a link first."""
    do, answer = Handlers(hall, on_gpu(hall.desk.joined)), [states.session, asked]
    turn = states.turn
    asking = [states.upload, parts.prompt, parts.seed, states.own, method, turn]
    heavy = HEAVY | PRIVATE | NEWEST | {"show_progress_on": asked}

    def lead(trigger: Callable[..., Any]) -> Dependency:
        # wiped by the browser: an answer that does it could come after the one of a stop
        trigger(None, None, parts.told, js="() => ''", **QUICK, **NEWEST)
        begun = trigger(do.begin, turn, None, js=numbered("begun", 1), **QUICK, **NEWEST)
        begun.failure(None, None, None, js="() => page.ended()")
        again = numbered("again", len(asking))
        return begun.success(on_gpu(do.answer), asking, answer, js=again, **heavy)

    kept = [states.upload, *parts.shows]
    arrived = parts.upload.upload(
        do.accept, [parts.upload, parts.prompt, states.session], [parts.upload, *kept, parts.prompt],
        **LIGHT | PRIVATE | RAW,
    )  # fmt: skip
    arrived.failure(lambda: None, None, parts.upload, **QUICK)
    parts.brought.clear(do.clear, None, kept, **QUICK)
    parts.stop.click(
        do.halt, [states.session, turn], [parts.told, asked], js=numbered("stopped", 2), **QUICK
    )
    parts.words.word(do.word, parts.prompt, parts.prompt, **QUICK)
    named = "(prompt, known) => page.unknown(prompt, known)"  # in the browser, at each key
    parts.prompt.change(None, [parts.prompt, parts.known], parts.unknown, js=named)
    opened = [*answer, parts.prompt, parts.seed, *kept]
    chosen = parts.strip.example(
        do.choose, [states.own, turn], opened, js=numbered("begun", 2), **QUICK, **NEWEST
    )
    presses = [parts.make.click, parts.prompt.submit]
    return [
        lead(states.wanted.change),
        lead(partial(gr.on, presses)),
        lead(arrived.success),
        chosen,
    ]
