"""The three ways in: an example, a description, an upload."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from attribution.page.choices import headed
from attribution.page.desk import ANY, Desk
from attribution.page.events import (
    HEAVY,
    LIGHT,
    PRIVATE,
    PROGRESS,
    QUICK,
    RAW,
    live,
    on_gpu,
    plainly,
    sent,
)
from attribution.page.hall import Hall
from attribution.page.session import LAST_SEED, SEED, Session
from attribution.page.states import States
from attribution.page.views import as_data

STRIP = 10  # examples to choose from
# what a model reads -> how a picture is asked for, and what is asked of an upload
ASKED = {"prompt": "Describe it", "label": "Its class, a name or a number", "nothing": ""}
KNOWN = {
    "prompt": "Its prompt, if you know it",
    "label": "Its class, if you know it",
    "nothing": "",
}


@dataclass(frozen=True)
class Parts:
    """What the panel is made of."""

    strip: gr.HTML | None  # where there are examples
    picks: list[gr.Dropdown]
    seed: gr.Number
    prompt: gr.Textbox
    make: gr.Button
    upload: gr.Image
    said: gr.Textbox
    follow: gr.Button
    method: gr.Dropdown


@dataclass(frozen=True)
class Handlers:
    """What happens when somebody asks about a picture."""

    hall: Hall

    @plainly
    def accept(self, upload: dict | None, request: gr.Request) -> dict:
        """Read an upload as soon as it arrives, and show its pixels; the picture stays with its visitor."""
        name = (upload or {}).get("path")
        picture = self.hall.uploads.take(request.session_hash, name)
        return {"path": name, "url": as_data(picture.image), "orig_name": "the upload"}

    def clear(self, request: gr.Request) -> None:
        """Forget a visitor's upload."""
        self.hall.uploads.clear(request.session_hash)

    @plainly
    def generate(
        self, prompt: object, seed: object, own: list, method: object, request: gr.Request,
        *picks: object, progress: gr.Progress = PROGRESS,
    ) -> Iterator[tuple]:  # fmt: skip
        """Draw a picture, show it, attribute it, show the answer."""
        desk = self.hall.desk
        progress(0, desc="Drawing")
        image, prompt, seed = desk.draw(prompt, seed, self.hall.steps(request, progress, "Drawing"))
        yield gr.skip(), desk.views.drawn(image, prompt)
        progress(None, desc="Comparing with every training picture")
        session = desk.attribute(image, prompt, seed, picks, own, method)
        yield session, desk.views.asked(session)

    @plainly
    def trace(
        self, upload: dict | None, prompt: object, own: list, method: object, request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[Session, str]:  # fmt: skip
        """Attribute the visitor's upload, which may just be arriving."""
        desk = self.hall.desk
        progress(None, desc="Comparing with every training picture")
        name = (upload or {}).get("path")
        picture = self.hall.uploads.take(request.session_hash, name)
        credentials = desk.views.credentials(picture.credentials)
        session = desk.attribute(picture.image, prompt, None, (), own, method, credentials)
        return session, desk.views.asked(session)

    @plainly
    def choose(self, event: gr.EventData) -> tuple:
        """Open an example, whose answer is known."""
        desk = self.hall.desk
        session = desk.opened(sent(event, "example", len(desk.examples)))
        return session, desk.views.asked(session), session.prompt, session.seed


def lay_out(desk: Desk) -> Parts:
    """Lay out a tab for each way."""
    words, strip, reads = desk.choices.words, None, desk.choices.reads
    with gr.Tabs(elem_id="ways"):
        if desk.examples:
            with gr.Tab("Examples"):
                strip = live(desk.views.strip(desk.chosen(STRIP), desk.examples), "strip")
        with gr.Tab("Draw" if reads == "nothing" else "Describe"):
            with gr.Row(elem_id="picks"):
                picks = [
                    gr.Dropdown([ANY, *values], label=headed(concept), min_width=110)
                    for concept, values in words.items()
                ]
                limits = {"precision": 0, "minimum": 0, "maximum": LAST_SEED}
                seed = gr.Number(SEED, label="Seed", min_width=90, **limits)
            with gr.Row(equal_height=True):
                hint = desk.examples[desk.chosen(1)[0]].prompt if desk.examples else None
                prompt = gr.Textbox(
                    label=ASKED[reads], placeholder=hint, scale=5, max_length=desk.max_prompt,
                    visible=reads != "nothing",
                )  # fmt: skip
                make = gr.Button("Generate", variant="primary", min_width=120)
        with gr.Tab("Upload"), gr.Row():
            kinds = {"sources": ["upload", "clipboard"], "format": "png"}
            kinds |= {"label": "JPEG, PNG or WebP; never stored"}
            upload = gr.Image(buttons=[], height=190, alt_text="The upload", **kinds)
            with gr.Column():
                said = gr.Textbox(
                    "", label=KNOWN[reads], max_length=desk.max_prompt, visible=reads != "nothing"
                )
                follow = gr.Button("Trace", variant="primary")
    methods = list(desk.by_method)
    method = gr.Dropdown(methods, value=methods[0], label="Method", visible=len(methods) > 1)
    return Parts(strip, picks, seed, prompt, make, upload, said, follow, method)


def connect(hall: Hall, parts: Parts, asked: gr.HTML, states: States) -> list[Dependency]:
    """Lead each way to an answer; give the events that bring one."""
    do, answer = Handlers(hall), [states.session, asked]
    heavy = HEAVY | PRIVATE | {"show_progress_on": asked}
    for pick in parts.picks:
        pick.input(hall.desk.build, parts.picks, parts.prompt, **QUICK)
    asking = [parts.prompt, parts.seed, states.own, parts.method, *parts.picks]
    presses = [parts.make.click, parts.prompt.submit, states.wanted.change]
    made = gr.on(presses, on_gpu(do.generate), asking, answer, **heavy)
    arriving = {**LIGHT, **PRIVATE, **RAW, "postprocess": False}
    arrived = parts.upload.upload(do.accept, parts.upload, parts.upload, **arriving)
    arrived.failure(lambda: None, None, parts.upload, **QUICK)
    parts.upload.clear(do.clear, None, parts.upload, **QUICK)
    asking = [parts.upload, parts.said, states.own, parts.method]
    followed = parts.follow.click(on_gpu(do.trace), asking, answer, **heavy, **RAW)
    if parts.strip is None:
        return [made, followed]
    opened = [*answer, parts.prompt, parts.seed]
    return [made, followed, parts.strip.example(do.choose, None, opened, **QUICK)]
