"""Which questions count, and how much: a choice for one alone, and sliders."""

from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from attribution.answer.questions import GENERAL
from attribution.page.events import QUICK, plainly
from attribution.page.views import QUESTIONS

OWN_SLOTS = 2  # sliders for concepts of one's own


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    question: gr.Radio
    sliders: list[gr.Slider]  # one for each of QUESTIONS
    owned: list[gr.Slider]

    @property
    def every(self) -> list[gr.Slider]:
        """Give all sliders, in the order of a mix's amounts."""
        return [*self.sliders, *self.owned]


@plainly
def compare_by(question: object) -> list:
    """Set the sliders to one question alone."""
    if question not in list(QUESTIONS):
        return [gr.skip()] * (len(QUESTIONS) + OWN_SLOTS)
    return [float(name == question) for name in QUESTIONS] + [0.0] * OWN_SLOTS


def lay_out() -> Parts:
    """Lay out the choice and the sliders."""
    question = gr.Radio(
        list(QUESTIONS), value="Whole picture", label="Compare by", elem_id="question"
    )
    with gr.Row(elem_id="sliders"):
        options = {"step": 0.05, "min_width": 120, "buttons": []}
        sliders = [
            gr.Slider(0, 1, float(c == GENERAL), label=q, **options) for q, c in QUESTIONS.items()
        ]
        hidden = options | {"label": "your own", "visible": False}
        owned = [gr.Slider(0, 1, 0, **hidden) for _ in range(OWN_SLOTS)]
    return Parts(question, sliders, owned)


def connect(parts: Parts, ranking: dict) -> list[Dependency]:
    """Rank anew whenever the mix changes; give the events that change it."""
    moves = [slider.input for slider in parts.every]
    moving = gr.on(moves, trigger_mode="always_last", **ranking)
    gr.on(moves, None, None, parts.question, js="() => null")
    compared = parts.question.input(compare_by, parts.question, parts.every, **QUICK)
    return [moving, compared.success(**ranking)]
