"""Which questions count, and how much: a choice for one alone, and sliders."""

from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from attribution.answer.questions import GENERAL
from attribution.page.choices import Choices, headed
from attribution.page.events import QUICK, plainly

OWN_SLOTS = 2  # sliders for concepts of one's own


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    question: gr.Radio
    sliders: list[gr.Slider]  # one for each question
    owned: list[gr.Slider]

    @property
    def every(self) -> list[gr.Slider]:
        """Give all sliders, in the order of a mix's amounts."""
        return [*self.sliders, *self.owned]


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody chooses one question."""

    choices: Choices

    @plainly
    def compare_by(self, question: object) -> list:
        """Set the sliders to one question alone."""
        names = self.choices.questions
        if question not in names:
            return [gr.skip()] * (len(names) + OWN_SLOTS)
        return [float(name == question) for name in names] + [0.0] * OWN_SLOTS


def lay_out(choices: Choices) -> Parts:
    """Lay out the choice and the sliders; where there is one question, neither can be seen."""
    names, several = choices.questions, len(choices.questions) > 1
    question = gr.Radio(
        [(headed(name), name) for name in names], value=GENERAL, label="Compare by",
        elem_id="question", visible=several,
    )  # fmt: skip
    with gr.Row(elem_id="sliders"):
        options = {"step": 0.05, "min_width": 120, "buttons": []}
        sliders = [
            gr.Slider(0, 1, float(name == GENERAL), label=headed(name), visible=several, **options)
            for name in names
        ]
        hidden = options | {"label": "your own", "visible": False}
        owned = [gr.Slider(0, 1, 0, **hidden) for _ in range(OWN_SLOTS)]
    return Parts(question, sliders, owned)


def connect(choices: Choices, parts: Parts, ranking: dict) -> list[Dependency]:
    """Rank anew whenever the mix changes; give the events that change it."""
    moves = [slider.input for slider in parts.every]
    moving = gr.on(moves, trigger_mode="always_last", **ranking)
    gr.on(moves, None, None, parts.question, js="() => null")
    compared = parts.question.input(
        Handlers(choices).compare_by, parts.question, parts.every, **QUICK
    )
    return [moving, compared.success(**ranking)]
