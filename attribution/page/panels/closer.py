"""A closer look at one training image: a drawer with both pictures, facts, layers, and where its evidence lies.

What is found arrives in parts that nobody sees; page.js shows it in the drawer, whichever way Gradio patches them.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from attribution.page.events import HEAVY, LAST, NEWEST, PRIVATE, QUICK, live, on_gpu, plainly, sent
from attribution.page.hall import Hall
from attribution.page.looking import closer, where
from attribution.page.states import States
from attribution.page.views import Views


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    closer: gr.HTML
    heat: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody looks closer."""

    hall: Hall

    @plainly
    def closer(self, event: gr.EventData, *looking: Any) -> tuple:
        """Look closer at one training image."""
        desk = self.hall.desk
        row = sent(event, "row", len(desk.collection))
        return row, closer(desk, desk.seen(*looking), row)

    @plainly
    def where(self, row: int | None, *looking: Any) -> Any:
        """Draw where the evidence for the training image that is looked at lies."""
        desk = self.hall.desk
        return gr.skip() if row is None else where(desk, desk.seen(*looking), row)


def lay_out(views: Views) -> Parts:
    """Lay out the drawer, which is closed until somebody looks."""
    live(views.drawer(), "drawers")
    return Parts(live("", "closer"), live("", "heat"))


def connect(hall: Hall, parts: Parts, ranked: gr.HTML, states: States, looking: list) -> None:
    """Look closer at a press; what was pressed last is what is looked at."""
    do = Handlers(hall)
    looked = ranked.look(do.closer, looking, [states.looked_at, parts.closer], **QUICK, **NEWEST)
    looked.then(None, None, None, js="() => page.drawer.answered()")
    looked.failure(None, None, None, js="() => page.drawer.dialog.close()")
    where = {"inputs": [states.looked_at, *looking], "outputs": parts.heat, "show_progress": "hidden"}  # fmt: skip
    found = looked.success(on_gpu(do.where), **where, **HEAVY, **PRIVATE, **LAST)
    found.failure(None, None, None, js="() => page.drawer.nowhere()")
