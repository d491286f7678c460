"""The report, the ranking and the link, to take along."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from attribution.page.events import LIGHT, PRIVATE, live, plainly
from attribution.page.hall import Hall
from attribution.page.language import say
from attribution.page.taking import taken
from attribution.page.views import Views


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    prepare: gr.Button
    taken: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody takes the answer along."""

    hall: Hall

    @plainly
    def report(self, *looking: Any) -> str:
        """Write the report, as links that hold it."""
        return taken(self.hall.desk, self.hall.desk.seen(*looking))


def lay_out(views: Views) -> Parts:
    """Lay out the tab."""
    with gr.Tab(say("Report"), id="report"):
        gr.HTML(views.explained("take"))
        prepare = gr.Button(say("Prepare the report"), variant="primary")
        return Parts(prepare, live("", "taken", min_height=60))


def connect(hall: Hall, parts: Parts, looking: list) -> None:
    """Write the report at a press."""
    parts.prepare.click(Handlers(hall).report, looking, parts.taken, **LIGHT, **PRIVATE)
