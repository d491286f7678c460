"""The ranking as a table, which is written with the ranking."""

from dataclasses import dataclass

import gradio as gr

from attribution.page.language import say


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    table: gr.HTML


def lay_out() -> Parts:
    """Lay out the tab."""
    with gr.Tab(say("Table")):
        return Parts(gr.HTML(elem_id="table"))
