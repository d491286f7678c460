"""The picture with its verdict, and what follows whenever there is a new one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from attribution.page.desk import Desk
from attribution.page.events import MARKS, PRIVATE, QUICK, live, on_gpu, plainly
from attribution.page.hall import Hall
from attribution.page.session import Session
from attribution.page.states import States

RECENT = 8  # of a visitor's pictures, for the reverse question


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    asked: gr.HTML
    verdict: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens after an answer."""

    hall: Hall

    def keep(self, session: Session | None, recent: list) -> tuple:
        """Keep a visitor's last pictures, and forget all that was of the picture before."""
        kept = recent
        if session and session.example is None:
            kept = [*recent, replace(session, regions=[])][-RECENT:]  # maps are made again
        nothing = self.hall.desk.views.leaving([])
        return kept, [], None, None, "", nothing, "", ""

    @plainly
    def mark(self, session: Session | None) -> Any:
        """Compare the picture plainly, and trace it again under other noise."""
        return self.hall.desk.mark(session)


def lay_out(desk: Desk) -> Parts:
    """Show the first example's picture at once."""
    first = desk.first()
    with gr.Column(scale=1, min_width=250, elem_classes="stays"):
        asked = live(desk.views.asked(first) if first else "", "asked")
        return Parts(asked, live(desk.views.verdict(first) if first else "", "verdict"))


def connect(
    hall: Hall, events: Iterable[Dependency], states: States, shown: list[Block], ranking: dict
) -> None:
    """After each event that brings an answer: forget what was looked at, rank, mark, rank with the marks.

    `shown` are the closer look, what is left out, the report and the what-if. What a link brings keeps the link's artist.
    """
    do = Handlers(hall)
    kept = [states.recent, states.ticked, states.marks, states.looked_at, *shown]
    marking = {"inputs": states.session, "outputs": states.marks, "show_progress": "hidden"}
    ended = {"fn": None, "js": "() => page.ended()"}
    for number, event in enumerate(events):
        event.failure(**ended)
        settled = event.success(do.keep, [states.session, states.recent], kept, **QUICK)
        if number:
            settled = settled.success(lambda: "", None, states.artist, **QUICK)
        settled = settled.success(**ranking)
        settled.then(**ended)
        settled.success(on_gpu(do.mark), **marking, **MARKS, **PRIVATE).success(**ranking)
