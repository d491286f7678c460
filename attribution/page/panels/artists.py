"""Every artist's share; one can be chosen, whose pictures alone are ranked then."""

from collections.abc import Iterable
from dataclasses import dataclass

import gradio as gr

from attribution.page.events import QUICK, live, plainly
from attribution.page.guards import data_of
from attribution.page.inputs import words
from attribution.page.language import say
from attribution.page.states import States


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    artists: gr.HTML


@plainly
def filter(event: gr.EventData) -> str:
    """Show one artist's pictures alone, or all."""
    return words(data_of(event).get("artist"), "the artist", 200)


def lay_out(shown: bool) -> Parts:
    """Lay out the tab, which is `shown` where the collection names artists."""
    with gr.Tab(say("Artists"), id="artists", visible=shown):
        return Parts(live("", "artists"))


def connect(buttons: Iterable[gr.HTML], states: States, ranking: dict) -> None:
    """Rank one artist's pictures wherever the name is pressed."""
    for part in buttons:
        part.artist(filter, None, states.artist, **QUICK).success(**ranking)
