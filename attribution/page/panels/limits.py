"""What the page can and cannot tell, and how often it is wrong."""

import gradio as gr

from attribution.page.language import say
from attribution.page.views import Views


def lay_out(views: Views, key: str) -> None:
    """Lay out the tab, which does nothing."""
    with gr.Tab(say("Limits"), id="limits"):
        gr.HTML(views.limits(key), elem_id="limits")
