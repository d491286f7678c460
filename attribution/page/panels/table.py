"""The ranking as a table, which is written with the ranking."""

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    table: gr.HTML


def lay_out() -> Parts:
    """Lay out the tab."""
    with gr.Tab("Table"):
        return Parts(gr.HTML(elem_id="table"))
