"""A concept of a visitor's own: a phrase that is learned, and then has a slider."""

import json
from dataclasses import dataclass

import gradio as gr

from attribution.errors import InputError
from attribution.page.choices import Choices
from attribution.page.events import HEAVY, LONG, PRIVATE, PROGRESS, QUICK, STOPPED, on_gpu, plainly
from attribution.page.hall import Hall, Stopped
from attribution.page.inputs import words
from attribution.page.language import say
from attribution.page.session import Session
from attribution.page.states import States

SLOTS = 2  # sliders for them


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    phrase: gr.Textbox
    learn: gr.Button
    halt: gr.Button
    learned: gr.HTML


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody names a concept."""

    hall: Hall

    @plainly
    def learn(
        self, phrase: object, own: list, session: Session | None, request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple:  # fmt: skip
        """Learn a concept of the visitor's own, and give it a slider."""
        desk = self.hall.desk
        amounts = [*[0.0] * len(desk.choices.questions), 1.0]
        method = session.method if session else desk.attributor.method
        return self.learned(phrase, own, amounts, method, request, progress)

    @plainly
    def wish(
        self, wished: object, own: list, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> tuple:
        """Learn what a link asks about, for the link's mix and method."""
        phrase, amounts, method = read_wish(wished, len(self.hall.desk.choices.questions) + 1)
        return self.learned(phrase, own, amounts, method, request, progress)

    def learned(
        self, phrase: object, own: list, amounts: list, method: str, request: gr.Request,
        progress: gr.Progress,
    ) -> tuple:  # fmt: skip
        """Learn a phrase for a method's answers; the last of the amounts is its own."""
        desk, limit, count = self.hall.desk, self.hall.limit, len(amounts) - 1
        on_step = self.hall.steps(request, progress, "Learning the concept", limit)
        try:
            known = [each for each in own if (each.phrase, each.method) == (phrase, method)]
            concept = known[0] if known else desk.learn(phrase, on_step, method)
        except Stopped:
            return gr.skip(), desk.views.message(say(STOPPED)), *[gr.skip()] * (count + SLOTS)
        own = [*(c for c in own if c.phrase != concept.phrase), concept][-SLOTS:]
        sliders = [
            gr.Slider(
                visible=i < len(own), label=own[i].phrase if i < len(own) else "",
                value=amounts[-1] if i == len(own) - 1 else 0.0,
            )
            for i in range(SLOTS)
        ]  # fmt: skip
        others = [gr.Slider(visible=True, value=amount) for amount in amounts[:-1]]
        return own, desk.views.learned(concept), *others, *sliders

    @plainly
    def join(self, own: list, session: Session | None) -> Session | None:
        """Ask the picture that is there now about what was learned."""
        desk = self.hall.desk
        session = session or desk.first()
        return session and desk.joined(session, own)


def read_wish(wished: object, count: int) -> tuple[str, list[float], str]:
    """Read what arrival.py wrote down, which came by the browser."""
    try:
        told = json.loads(words(wished, "the wish", 10_000))
        amounts = [float(amount) for amount in told["amounts"]]
        if len(amounts) != count or not all(0 <= amount <= 1 for amount in amounts):
            raise ValueError
        method = words(told["method"], "the concept", 80)
        return words(told["phrase"], "the concept", 100), amounts, method
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("the link's mix cannot be read; copy it again") from error


def lay_out(choices: Choices) -> Parts:
    """Lay out a line, where the model reads phrases."""
    with gr.Column(elem_id="own", visible=choices.reads == "prompt"):
        with gr.Row(equal_height=True):
            phrase = gr.Textbox(
                label=say("A phrase of your own, such as “thick outlines”"), max_length=100, scale=4
            )
            learn = gr.Button(say("Learn it"), min_width=110)
            halt = gr.Button(say("Stop"), min_width=80)
        learned = gr.HTML(elem_id="learned")
    return Parts(phrase, learn, halt, learned)


def connect(
    hall: Hall, parts: Parts, sliders: list[gr.Slider], states: States, ranking: dict
) -> None:
    """Learn, and rank by what was learned."""
    do, shown = Handlers(hall), [states.own, parts.learned, *sliders]
    long = {"show_progress_on": parts.learned, **LONG, **PRIVATE}
    learned = gr.on(
        [parts.learn.click, parts.phrase.submit], on_gpu(do.learn), [parts.phrase, states.own, states.session], shown, **long
    )  # fmt: skip
    wished = states.wished.change(on_gpu(do.wish), [states.wished, states.own], shown, **long)
    for event in (learned, wished):
        joined = {
            "fn": on_gpu(do.join),
            "inputs": [states.own, states.session],
            "outputs": states.session,
        }
        event.success(**joined, **HEAVY, **PRIVATE, show_progress="hidden").success(**ranking)
    parts.halt.click(hall.stop, None, None, **QUICK)
