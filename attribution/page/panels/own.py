"""A concept of a visitor's own: a phrase that is learned, and then has a slider."""

from dataclasses import dataclass

import gradio as gr

from attribution.page.choices import OWN, Choices
from attribution.page.events import LONG, PRIVATE, PROGRESS, QUICK, STOPPED, on_gpu, plainly
from attribution.page.hall import Hall, Stopped
from attribution.page.panels import mix
from attribution.page.panels.mix import OWN_SLOTS
from attribution.page.session import Session
from attribution.page.states import States


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
        desk, limit = self.hall.desk, self.hall.limit
        on_step = self.hall.steps(request, progress, "Learning the concept", limit)
        try:
            concept = desk.learn(phrase, on_step)
        except Stopped:
            rest = [gr.skip()] * (1 + len(desk.choices.questions) + OWN_SLOTS)
            return gr.skip(), gr.skip(), desk.views.message(STOPPED), *rest
        own = [*(c for c in own if c.phrase != concept.phrase), concept][-OWN_SLOTS:]
        session = session or desk.first()
        for each in own:
            if session and OWN + each.phrase not in session.answer.scores:
                session = desk.asked_more(session, each)
        sliders = [
            gr.Slider(visible=i < len(own), label=own[i].phrase if i < len(own) else "", value=float(i == len(own) - 1))
            for i in range(OWN_SLOTS)
        ]  # fmt: skip
        learned = desk.views.learned(concept)
        others = [gr.Slider(visible=True, value=0.0) for _ in desk.choices.questions]
        return own, session, learned, None, *others, *sliders


def lay_out(choices: Choices) -> Parts:
    """Lay out what opens at a press, where the model reads phrases."""
    readable = choices.reads == "prompt"
    with gr.Accordion("A concept of your own", open=False, elem_id="own", visible=readable):
        with gr.Row(equal_height=True):
            phrase = gr.Textbox(label="A phrase, such as “thick outlines”", max_length=100, scale=4)
            learn = gr.Button("Learn it", min_width=110)
            halt = gr.Button("Stop", min_width=80)
        learned = gr.HTML(elem_id="learned")
    return Parts(phrase, learn, halt, learned)


def connect(hall: Hall, parts: Parts, mixed: mix.Parts, states: States, ranking: dict) -> None:
    """Learn, and rank by what was learned."""
    learned = gr.on(
        [parts.learn.click, parts.phrase.submit], on_gpu(Handlers(hall).learn),
        [parts.phrase, states.own, states.session],
        [states.own, states.session, parts.learned, mixed.question, *mixed.every],
        show_progress_on=parts.learned, **LONG, **PRIVATE,
    )  # fmt: skip
    learned.success(**ranking)
    parts.halt.click(hall.stop, None, None, **QUICK)
