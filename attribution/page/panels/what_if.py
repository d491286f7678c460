"""What if: the picture, drawn again by a model that was made to forget some training images."""

from dataclasses import dataclass

import gradio as gr

from attribution.page.choices import Choices
from attribution.page.events import (
    LONG,
    PRIVATE,
    PROGRESS,
    QUICK,
    RAW,
    STOPPED,
    live,
    on_gpu,
    plainly,
)
from attribution.page.hall import Hall, Stopped
from attribution.page.language import say
from attribution.page.leaving import to_leave, without
from attribution.page.panels.collection import any_of
from attribution.page.session import Session
from attribution.page.states import States
from attribution.page.views import Views


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    leaving: gr.HTML
    whose: gr.Dropdown
    forget: gr.Button
    cease: gr.Button
    different: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody leaves training images out."""

    hall: Hall

    @plainly
    def without(
        self, session: Session | None, ticked: list, artist: object, request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> str:  # fmt: skip
        """Draw the picture again without some training images."""
        desk, limit = self.hall.desk, self.hall.limit
        rows = to_leave(desk, ticked, artist)
        on_step = self.hall.steps(request, progress, "Forgetting", limit)
        try:
            found = without(desk, session, rows, on_step)
        except Stopped:
            return desk.views.message(say(STOPPED))
        return desk.views.what_if(found, rows)


def lay_out(views: Views, choices: Choices) -> Parts:
    """Lay out the tab, where the model has what unlearning moves."""
    with gr.Tab(say("What if"), id="what if", visible=choices.forgets):
        gr.HTML(views.explained("what_if"))
        leaving = live(views.leaving([]), "leaving")
        with gr.Row(equal_height=True):
            who = {"label": say("or everything by"), "min_width": 200, "visible": choices.artists}
            whose = gr.Dropdown([any_of()], **who)
            forget = gr.Button(say("Make it without these"), variant="primary", min_width=180)
            cease = gr.Button(say("Stop"), min_width=80)
        different = gr.HTML(elem_id="different", min_height=60)
    return Parts(leaving, whose, forget, cease, different)


def connect(hall: Hall, parts: Parts, states: States) -> None:
    """Forget at a press, and stop at another."""
    parts.forget.click(
        on_gpu(Handlers(hall).without), [states.session, states.ticked, parts.whose],
        parts.different, show_progress_on=parts.different, **LONG, **PRIVATE, **RAW,
    )  # fmt: skip
    parts.cease.click(hall.stop, None, None, **QUICK)
