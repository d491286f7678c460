"""The collection: its training images are searched, and each tells which pictures lean on it."""

from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from attribution.answer.questions import GENERAL
from attribution.page.browsing import browse, opened
from attribution.page.choices import Choices, headed
from attribution.page.desk import ANY
from attribution.page.events import NEWEST, QUICK, RAW, live, numbered, on_gpu, plainly, sent
from attribution.page.hall import Asking, Hall
from attribution.page.language import say
from attribution.page.states import States


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    text: gr.Textbox
    artist: gr.Dropdown
    kind: gr.Dropdown
    opened: gr.HTML
    found: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody searches, turns a page or opens an image."""

    hall: Hall
    ask_own: Asking  # what a known picture was not asked yet

    @plainly
    def browse(self, text: object, artist: object, kind: object) -> str:
        """Search the collection."""
        return browse(self.hall.desk, text, artist, kind, 1)

    @plainly
    def turn(self, text: object, artist: object, kind: object, event: gr.EventData) -> str:
        """Show another page of the collection."""
        return browse(self.hall.desk, text, artist, kind, sent(event, "page", 1_000_000))

    @plainly
    def open(self, recent: list, event: gr.EventData) -> str:
        """Show a training image and what leans on it."""
        row = sent(event, "row", len(self.hall.desk.collection))
        return opened(self.hall.desk, row, recent, {GENERAL: 1.0})

    @plainly
    def open_drawn(
        self, recent: list, own: list, turn: object, event: gr.EventData, request: gr.Request
    ) -> tuple:
        """Open an example, or one of the visitor's own pictures, from the collection's tab."""
        desk = self.hall.desk
        self.hall.newest(request, turn)
        known = len(desk.examples)
        number = sent(event, "drawn", known + len(recent))
        session = desk.opened(number) if number < known else recent[number - known]
        session = self.hall.opened(session, own, self.ask_own, request, turn)
        return session, desk.views.asked(session), session.prompt, gr.Tabs(selected="trace")


def lay_out(choices: Choices) -> Parts:
    """Lay out the tab; what the collection does not name cannot be chosen."""
    with gr.Tab(say("Collection"), id="collection"):
        with gr.Row():
            text = gr.Textbox(
                label=say("Search captions"), scale=2, max_length=200, elem_id="search"
            )
            artist = gr.Dropdown(
                [any_of()], label=say("Artist"), min_width=150, visible=choices.artists
            )
            column = choices.column
            kind = gr.Dropdown(
                [any_of()], label=headed(column), min_width=150, visible=bool(column)
            )
        opened = live("", "opened")
        return Parts(text, artist, kind, opened, live("", "found"))


def any_of() -> tuple[str, str]:
    """Name the choice of no artist or kind, and give its value."""
    return say(ANY), ANY


def connect(hall: Hall, parts: Parts, shown: list, states: States) -> Dependency:
    """Search, turn and open; give the event that opens a picture in `shown`."""
    do, fields = Handlers(hall, on_gpu(hall.desk.joined)), [parts.text, parts.artist, parts.kind]
    for event in (parts.text.change, parts.artist.input, parts.kind.input):
        event(do.browse, fields, parts.found, trigger_mode="always_last", **QUICK, **RAW)
    parts.found.turn(do.turn, fields, parts.found, **QUICK, **RAW)
    parts.found.look(do.open, states.recent, parts.opened, **QUICK)
    begun = {"js": numbered("begun", 3), **QUICK, **NEWEST}
    opening = [states.recent, states.own, states.turn]
    return parts.opened.drawn(do.open_drawn, opening, shown, **begun)
