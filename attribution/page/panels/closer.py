"""A closer look at one training image: facts, layers, and where in the picture its evidence lies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from attribution.page.events import HEAVY, PRIVATE, QUICK, live, on_gpu, plainly, sent
from attribution.page.hall import Hall
from attribution.page.states import States


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    detail: gr.Column
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
        return row, gr.Column(visible=True), desk.closer(desk.seen(*looking), row), ""

    @plainly
    def closer_again(self, row: int | None, *looking: Any) -> Any:
        """Look at the same training image under another mix."""
        desk = self.hall.desk
        return gr.skip() if row is None else desk.closer(desk.seen(*looking), row)

    @plainly
    def where(self, row: int | None, *looking: Any) -> Any:
        """Draw where the evidence for the training image that is looked at lies."""
        desk = self.hall.desk
        return gr.skip() if row is None else desk.where(desk.seen(*looking), row)


def lay_out() -> Parts:
    """Lay out what is hidden until somebody looks."""
    with gr.Column(visible=False, elem_id="detail") as detail:
        return Parts(detail, live("", "closer"), gr.HTML(elem_id="heat", min_height=60))


def connect(
    hall: Hall, parts: Parts, ranked: gr.HTML, moved: Iterable[Dependency], states: States,
    looking: list,
) -> None:  # fmt: skip
    """Look closer at a press, and again whenever the mix has moved."""
    do = Handlers(hall)
    shown = [states.looked_at, parts.detail, parts.closer, parts.heat]
    looked = ranked.look(do.closer, looking, shown, **QUICK)
    asking = {"inputs": [states.looked_at, *looking]}
    where = {"fn": on_gpu(do.where), "outputs": parts.heat, **asking, **HEAVY, **PRIVATE}
    looked.success(**where)
    for event in moved:
        event.success(do.closer_again, outputs=parts.closer, **asking, **QUICK).success(**where)
