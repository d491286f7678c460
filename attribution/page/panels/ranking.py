"""The training images, most influential first, which can be ticked."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from attribution.page.events import NEWEST, QUICK, TICK, live, plainly, sent, sentence_of
from attribution.page.guards import data_of
from attribution.page.hall import Hall
from attribution.page.session import Unasked
from attribution.page.states import States


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    ranked: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when the ranking changes, or something in it is ticked."""

    hall: Hall

    @plainly
    def rank(self, ticked: list, *looking: Any) -> tuple[str, str, str, str]:
        """Show verdict, ranking, artists and table for what the visitor looks at, from the scores at hand."""
        views = self.hall.desk.views
        try:
            seen = self.hall.desk.seen(*looking)
        except Unasked as error:  # what stands there is of another picture
            return views.message(sentence_of(error)), "", "", ""
        return (
            views.verdict(seen),
            views.ranked(seen, ticked),
            views.artists(seen),
            views.as_table(seen),
        )

    @plainly
    def tick(self, ticked: list, event: gr.EventData) -> tuple[list, str]:
        """Note that a training image is to be left out, or not."""
        row = sent(event, "row", len(self.hall.desk.collection))
        kept = [r for r in ticked if r != row] + [row] * bool(data_of(event).get("on"))
        return kept, self.hall.desk.views.leaving(kept)


def lay_out() -> Parts:
    """Leave a place for the ranking, which comes with the visitor."""
    return Parts(live("", "ranked"))


def event(hall: Hall, states: States, looking: list, shown: list[gr.HTML]) -> dict:
    """Describe the event that ranks anew: verdict, ranking, artists and table."""
    inputs = [states.ticked, *looking]
    return {"fn": Handlers(hall).rank, "inputs": inputs, "outputs": shown, **QUICK}


def connect(hall: Hall, parts: Parts, leaving: gr.HTML, states: States, ranking: dict) -> None:
    """Keep one list of what is ticked, in the ranking and where it is left out."""
    do, one_by_one, kept = Handlers(hall), QUICK | TICK | NEWEST, [states.ticked, leaving]
    parts.ranked.tick(do.tick, states.ticked, kept, **one_by_one)
    leaving.tick(do.tick, states.ticked, kept, **one_by_one).success(**ranking)
