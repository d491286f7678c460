"""Keep what Gradio remembers of each visitor between two events."""

from dataclasses import dataclass

import gradio as gr

HOUR = 3600  # seconds that a visitor's answer, and the files made for it, are kept


@dataclass(frozen=True)
class States:
    """One visitor's, each of an hour."""

    session: gr.State  # Session, None before the first answer
    marks: gr.State  # what was found when the picture was traced again
    own: gr.State  # concepts of their own
    recent: gr.State  # their last pictures' sessions
    ticked: gr.State  # rows to leave out
    looked_at: gr.State  # the row of the closer look
    artist: gr.State  # whose pictures alone are shown
    upload: gr.State  # the name of their picture
    wanted: gr.Textbox  # what a link asks to be made
    wished: gr.Textbox  # a phrase of one's own that a link asks about, and the amounts
    turn: gr.Number  # of the visitor's questions, counted in the browser


def new_states() -> States:
    """Make them, empty."""
    empty = {
        name: gr.State(time_to_live=HOUR) for name in ("session", "marks", "looked_at", "upload")
    }
    lists = {name: gr.State([], time_to_live=HOUR) for name in ("own", "recent", "ticked")}
    artist = gr.State("", time_to_live=HOUR)
    hidden = {name: gr.Textbox("", visible=False) for name in ("wanted", "wished")}
    hidden["turn"] = gr.Number(0, visible=False)
    return States(**empty, **lists, artist=artist, **hidden)
