"""Which questions count, and how much: one alone, or a mix by sliders; under the mix also a phrase of one's own, and the method."""

from dataclasses import dataclass

import gradio as gr

from attribution.answer.questions import GENERAL
from attribution.page.choices import Choices, headed
from attribution.page.desk import Desk
from attribution.page.events import QUICK, plainly
from attribution.page.language import say
from attribution.page.panels import own
from attribution.page.panels.own import SLOTS

MIX = "mix…"


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    question: gr.Radio
    mixing: gr.Column  # shown for a mix alone
    sliders: list[gr.Slider]  # one for each question
    owned: list[gr.Slider]
    method: gr.Dropdown
    own: own.Parts

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
        """Set the sliders to one question alone, or show them."""
        names = self.choices.questions
        if question not in names:
            return [gr.Column(visible=question == MIX), *[gr.skip()] * (len(names) + SLOTS)]
        alone = [float(name == question) for name in names]
        return [gr.Column(visible=False), *alone, *[0.0] * SLOTS]


def shown_for(choices: Choices, amounts: list[float], more: bool = False) -> tuple:
    """Say which question the amounts are, and whether the sliders are to be seen; `more` is mixed than they tell."""
    asked = [name for name, amount in zip(choices.questions, amounts, strict=False) if amount]
    question = asked[0] if len(asked) == 1 and not more else MIX
    return question, gr.Column(visible=question == MIX)


def lay_out(desk: Desk) -> Parts:
    """Lay out one row, and what opens at its end; where there is one question and nothing to mix, no row is seen."""
    choices, methods = desk.choices, list(desk.by_method)
    names, several = choices.questions, len(choices.questions) > 1
    readable = choices.reads == "prompt"
    more = several or readable or len(methods) > 1
    row = [(say("Whole"), GENERAL), *((headed(name), name) for name in names[1:])]
    row += [(say("Mix…"), MIX)] * more
    question = gr.Radio(
        row, value=GENERAL, label=say("Compare by"), elem_id="question", visible=len(row) > 1
    )
    with gr.Column(visible=False, elem_id="mixing") as mixing:
        with gr.Row(elem_id="sliders"):
            options = {"step": 0.05, "min_width": 120, "buttons": []}
            sliders = [
                gr.Slider(
                    0, 1, float(name == GENERAL), label=headed(name), visible=several, **options
                )
                for name in names
            ]
            hidden = options | {"label": say("your own"), "visible": False}
            owned = [gr.Slider(0, 1, 0, **hidden) for _ in range(SLOTS)]
        concept = own.lay_out(choices)
        method = gr.Dropdown(
            methods,
            value=methods[0],
            label=say("Method, for the next picture"),
            visible=len(methods) > 1,
        )
    return Parts(question, mixing, sliders, owned, method, concept)


def connect(choices: Choices, parts: Parts, ranking: dict) -> None:
    """Rank anew whenever the mix changes."""
    gr.on([s.input for s in parts.every], trigger_mode="always_last", **ranking)
    compared = parts.question.input(
        Handlers(choices).compare_by, parts.question, [parts.mixing, *parts.every], **QUICK
    )
    compared.success(**ranking)
