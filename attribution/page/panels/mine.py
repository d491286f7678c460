"""Is my work here? By name or by picture: was it in the set, does it look alike, did it influence; and how to be removed."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from attribution.page.desk import Desk
from attribution.page.events import (
    HEAVY,
    NEWEST,
    PRIVATE,
    QUICK,
    RAW,
    live,
    numbered,
    on_gpu,
    plainly,
)
from attribution.page.guards import data_of
from attribution.page.hall import Hall
from attribution.page.language import say
from attribution.page.panels.collection import Handlers as Collected
from attribution.page.states import States
from attribution.page.work import by_picture, removed, shown, shown_by_name


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    tab: gr.Tab
    name: gr.Textbox
    search: gr.Button
    choose: gr.HTML
    upload: gr.Image  # which nobody sees
    found: gr.HTML
    removed: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody looks for their own work."""

    hall: Hall

    @plainly
    def by_name(self, name: object) -> str:
        """Look for an artist."""
        return shown_by_name(self.hall.desk, name)

    @plainly
    def chosen(self, event: gr.EventData) -> tuple:
        """Look for one of the artists who fit what was typed."""
        name = data_of(event).get("artist")
        return name, shown_by_name(self.hall.desk, name)

    @plainly
    def by_picture(self, upload: dict | None, request: gr.Request) -> tuple[None, str]:
        """Look for a picture, which is forgotten at once."""
        image = self.hall.taken(request, upload).image
        return None, shown(self.hall.desk, by_picture(self.hall.desk, image))

    @plainly
    def removed(self) -> str:
        """Show what was removed, as the list stands now."""
        return removed(self.hall.desk)


def lay_out(desk: Desk) -> Parts:
    """Lay out the tab; where the collection names nobody, only pictures are looked for."""
    artists = desk.choices.artists
    with gr.Tab(say("My work"), id="mine") as tab:
        gr.HTML(desk.views.explained("mine"))
        with gr.Row(elem_id="seek", equal_height=True):
            name = gr.Textbox(label=say("Your name"), max_length=200, scale=4, min_width=200, visible=artists)  # fmt: skip
            search = gr.Button(
                say("Look"), variant="primary", min_width=90, scale=0, visible=artists
            )
            choose = live(desk.views.chooser(), "choose")
        upload = gr.Image(sources=["upload"], format="png", buttons=[], elem_id="mine")
        found = live("", "found_mine", min_height=60)
        return Parts(tab, name, search, choose, upload, found, gr.HTML(elem_id="removed"))


def connect(hall: Hall, parts: Parts, opened: list, states: States) -> Dependency:
    """Look at a press; give the event that opens an example that leans on it in `opened`."""
    do, opening = Handlers(hall), Collected(hall, on_gpu(hall.desk.joined))
    asked: dict[str, Any] = {"fn": do.by_name, "inputs": parts.name, "outputs": parts.found}
    gr.on([parts.search.click, parts.name.submit], **asked, **QUICK, **RAW)
    parts.found.artist(do.chosen, None, [parts.name, parts.found], **QUICK)
    brought = parts.upload.upload(
        on_gpu(do.by_picture), parts.upload, [parts.upload, parts.found], **HEAVY, **PRIVATE, **RAW,
        show_progress_on=parts.found,
    )  # fmt: skip
    brought.failure(lambda: None, None, parts.upload, **QUICK)
    parts.tab.select(do.removed, None, parts.removed, **QUICK)
    begun = {"js": numbered("begun", 3), **QUICK, **NEWEST}
    known = [states.recent, states.own, states.turn]
    return parts.found.drawn(opening.open_drawn, known, opened, **begun)
