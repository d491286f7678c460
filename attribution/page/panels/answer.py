"""The picture with its verdict, and what follows whenever there is a new one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from attribution.page.desk import Desk
from attribution.page.events import HEAVY, PRIVATE, QUICK, live, on_gpu, plainly
from attribution.page.hall import Hall
from attribution.page.session import Session
from attribution.page.states import States

RECENT = 8  # of a visitor's pictures, for the reverse question


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    asked: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens after an answer."""

    hall: Hall

    def keep(self, session: Session | None, recent: list) -> tuple:
        """Keep a visitor's last pictures, and begin to look at a new one without filter or ticks."""
        kept = [*recent, session][-RECENT:] if session and session.example is None else recent
        return kept, "", [], None, None, gr.Column(visible=False), ""

    @plainly
    def mark(self, session: Session | None) -> Any:
        """Compare the picture plainly, and trace it again under other noise."""
        return self.hall.desk.mark(session)


def lay_out(desk: Desk) -> Parts:
    """Show the first example's picture at once."""
    first = desk.first()
    with gr.Column(scale=1, min_width=250, elem_classes="stays"):
        return Parts(live(desk.views.asked(first) if first else "", "asked"))


def connect(
    hall: Hall, events: Iterable[Dependency], states: States, detail: gr.Column, count: gr.Textbox,
    ranking: dict,
) -> None:  # fmt: skip
    """After each event that brings an answer: forget what was looked at, rank, mark, rank with the marks."""
    do = Handlers(hall)
    kept = [states.recent, states.artist, states.ticked, states.marks, states.looked_at]
    kept = {"outputs": [*kept, detail, count], **QUICK}
    marking = {"inputs": states.session, "outputs": states.marks, "show_progress": "hidden"}
    for event in events:
        settled = event.success(do.keep, [states.session, states.recent], **kept)
        settled = settled.success(**ranking)
        settled.success(on_gpu(do.mark), **marking, **HEAVY, **PRIVATE).success(**ranking)
