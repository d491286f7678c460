"""Offer the desk to programs: named endpoints, in which each caller has a session of their own.

In: what a program sent, which may be anything. Out: JSON and pictures. The endpoints hang on components that nobody
sees: `gr.api` hands on no visitor's state, and would name the parameters' kinds anew.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr

from attribution.answer.questions import GENERAL
from attribution.errors import InputError
from attribution.page.browsing import search
from attribution.page.choices import Choices, as_argument
from attribution.page.events import HEAVY, LIGHT, LONG, RAW, on_gpu, plainly
from attribution.page.hall import Hall
from attribution.page.inputs import rows, whole
from attribution.page.leaving import to_leave, without
from attribution.page.line import OnWait
from attribution.page.panels.own import SLOTS
from attribution.page.programs import as_json, row_json, spoken
from attribution.page.session import COUNT, SEED, Session
from attribution.page.states import States
from attribution.page.taking import written
from attribution.page.work import by_name, by_picture, report_of
from attribution.progress import OnStep

MOST = 100  # training images that a program may ask for
MIX = "mix"  # the argument that stands for one of each question
Mix = dict[str, object]  # question -> amount


@dataclass(frozen=True)
class Endpoints:
    """What programs may ask; a docstring is what they read of it."""

    hall: Hall

    def generate(self, prompt: object, seed: object, method: object, request: gr.Request) -> tuple:
        """Draw a picture from a prompt and a seed, and rank the training images behind it."""
        desk = self.hall.desk
        on_step = self.hall.steps(request)  # tells nothing, and ends where the program left
        image, prompt, seed = desk.draw(prompt, seed, on_step, looking(on_step))
        session = desk.attribute(image, prompt, seed, [], method, on_wait=looking(on_step))
        return session, image, as_json(desk, session, COUNT)

    def attribute(
        self, prompt: object, seed: object, method: object, request: gr.Request, mix: Mix,
        count: object = COUNT, artist: object = "",
    ) -> tuple:  # fmt: skip
        """Draw a picture from a prompt and a seed, and rank the training images behind it for a mix of questions."""
        session, image, _ = self.generate(prompt, seed, method, request)
        return image, self.rank(session, [], mix, count=count, artist=artist)

    def trace(
        self, upload: dict | None, prompt: object, method: object, request: gr.Request
    ) -> tuple:
        """Rank the training images behind a picture, which is never stored and is forgotten once it was read."""
        desk, picture = self.hall.desk, self.hall.taken(request, upload)
        on_wait = looking(self.hall.steps(request))
        session = desk.attribute(picture.image, prompt, None, [], method, on_wait=on_wait)
        said = picture.credentials
        return session, as_json(desk, session, COUNT) | {"credentials": said and vars(said)}

    def rank(
        self, session: Session | None, own: list, mix: Mix, own_concept: object = 0,
        count: object = COUNT, artist: object = "",
    ) -> dict:  # fmt: skip
        """Rank for another mix of questions, from the last answer's scores; `own_concept` is the last one learned."""
        if own_concept and not own:
            raise InputError("no concept of your own is learned yet; ask /learn first")
        if own_concept and session:
            session = self.hall.desk.joined(session, own[-1:])
        amounts = [*mix.values(), *[0.0] * (len(own) - 1), own_concept]
        seen = self.hall.desk.seen(session, None, artist, own, *amounts)
        return as_json(self.hall.desk, seen, whole(count, "the count", 1, MOST))

    def learn(
        self, phrase: object, own: list, session: Session | None, request: gr.Request
    ) -> tuple:
        """Learn weights for a phrase (half a minute); `rank` takes it as `own_concept`."""
        desk = self.hall.desk
        session = session or desk.first()
        if session is None:
            raise InputError("make or upload a picture first")
        on_step = self.hall.steps(request, limit=self.hall.limit)
        concept = desk.learn(phrase, on_step, session.method)
        about = {"phrase": concept.phrase, "unknown_words": list(concept.unknown_words)}
        return [*own, concept][-SLOTS:], desk.asked_more(session, concept), about

    def without(
        self, session: Session | None, left_out: object, artist: object, request: gr.Request
    ) -> tuple:
        """Draw the last picture again by a model that was made to forget training images (their rows) or an artist."""
        desk = self.hall.desk
        ticked = [desk.visible.shown(row) for row in rows(left_out or [], len(desk.collection))]
        chosen = to_leave(desk, ticked, artist)
        found = without(desk, session, chosen, self.hall.steps(request, limit=self.hall.limit))
        drawn = [found.before, found.after, *found.controls]
        shown = [{"loss": d.loss, "apart": d.apart, "rows": d.rows} for d in drawn if d]
        figures = {"share": found.share, "aim": found.aim and vars(found.aim), "drawn": shown}
        first = [drawn[n].image if n < len(drawn) and drawn[n] else None for n in range(3)]
        return *first, figures | {"seconds": found.seconds}

    def look(self, session: Session | None, row: object, mix: Mix) -> dict:
        """Tell which layers and noise levels spoke for one training image of the last answer."""
        desk = self.hall.desk
        seen = desk.seen(session, None, "", [], *mix.values())
        return spoken(desk, seen, whole(row, "the row", 0, len(desk.collection) - 1))

    def browse(self, text: object, artist: object, kind: object, count: object = COUNT) -> list:
        """Search the collection's captions and labels."""
        desk = self.hall.desk
        found, _ = search(desk, text, artist, kind)
        return [row_json(desk, row) for row in found[: whole(count, "the count", 1, MOST)]]

    def artist(self, artist: object, upload: dict | None, request: gr.Request) -> dict:
        """Tell whether an artist's work, or a picture, is here: in the set, looking alike, of influence; three answers apart."""
        desk = self.hall.desk
        if upload:
            return report_of(desk, by_picture(desk, self.hall.taken(request, upload).image))
        work, names = by_name(desk, artist)
        if work is None:
            several = f"; these fit: {', '.join(names)[:300]}" if names else ""
            raise InputError(f"nobody is shown by just that name{several}")
        return report_of(desk, work)

    def report(self, session: Session | None, mix: Mix) -> dict:
        """Write the last answer's report; `python -m precompute verify` checks it."""
        desk = self.hall.desk
        return written(desk, desk.seen(session, None, "", [], *mix.values()))


def looking(on_step: OnStep) -> OnWait:
    """Look, while a program waits, whether it is still there."""
    return lambda before, seconds: on_step(0, 1)


def named(handler: Callable, choices: Choices) -> Callable:
    """Give a handler an argument for each question in place of `mix`, and for the column in place of `kind`.

    Gradio tells programs the names of the arguments that a handler has.
    """
    arguments = inspect.signature(handler).parameters
    if MIX not in arguments:
        return renamed(handler, choices)
    place, count = list(arguments).index(MIX), len(choices.questions)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    asked = [
        inspect.Parameter(argument, kind, default=float(name == GENERAL))
        for name, argument in choices.arguments.items()
    ]

    @wraps(handler)
    def mixed(*given: Any) -> Any:
        amounts = dict(zip(choices.questions, given[place : place + count], strict=True))
        return handler(*given[:place], amounts, *given[place + count :])

    every = [*arguments.values()]
    mixed.__signature__ = inspect.Signature([*every[:place], *asked, *every[place + 1 :]])  # type: ignore[attr-defined]
    return mixed


def renamed(handler: Callable, choices: Choices) -> Callable:
    """Name what pictures are sought by as the collection does."""

    @wraps(handler)
    def sought(*given: Any) -> Any:
        return handler(*given)

    word = as_argument(choices.column) if choices.column else "kind"
    every = inspect.signature(handler).parameters.values()
    named = [each.replace(name=word) if each.name == "kind" else each for each in every]
    sought.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    return sought


def offer(hall: Hall, states: States, tools: bool = False) -> None:
    """Name the endpoints.

    Gradio asks for all callers of tools in one session of its own, so that tools are only what needs no session: one
    caller would be answered about another's picture.
    """
    do, session, own = Endpoints(hall), states.session, states.own
    call, picture = gr.Button(visible=False), {"visible": False, "format": "png", "type": "pil"}
    picture, before, after, control = (gr.Image(label=n, **picture) for n in ("Picture", "Before", "After", "Control"))  # fmt: skip
    answer = gr.JSON(visible=False, label="Answer")
    left_out = gr.JSON(visible=False, label="Rows")
    text = {n: gr.Textbox("", visible=False, label=n) for n in ("Prompt", "Method", "Artist", "Kind", "Phrase", "Text")}  # fmt: skip
    number = {n: gr.Number(v, visible=False, label=n) for n, v in (("Seed", SEED), ("Count", COUNT), ("Row", 0))}  # fmt: skip
    upload = gr.Image(visible=False, label="Upload")
    choices = hall.desk.choices
    mix = [gr.Number(float(n == GENERAL), visible=False, label=n) for n in [*choices.questions, "own concept"]]  # fmt: skip
    endpoints = (
        (do.generate, [text["Prompt"], number["Seed"], text["Method"]], [session, picture, answer], HEAVY),
        (do.trace, [upload, text["Prompt"], text["Method"]], [session, answer], HEAVY | RAW),
        (do.rank, [session, own, *mix, number["Count"], text["Artist"]], [answer], LIGHT),
        (do.learn, [text["Phrase"], own, session], [own, session, answer], LONG),
        (do.without, [session, left_out, text["Artist"]], [before, after, control, answer], LONG),
        (do.look, [session, number["Row"], *mix[:-1]], [answer], LIGHT),
        (do.browse, [text["Text"], text["Artist"], text["Kind"], number["Count"]], [answer], LIGHT),
        (do.artist, [text["Artist"], upload], [answer], HEAVY | RAW),
        (do.report, [session, *mix[:-1]], [answer], LIGHT),
    )  # fmt: skip
    if tools:
        asked = [
            text["Prompt"],
            number["Seed"],
            text["Method"],
            *mix[:-1],
            number["Count"],
            text["Artist"],
        ]
        endpoints += ((do.attribute, asked, [picture, answer], HEAVY),)
    for handler, inputs, outputs, options in endpoints:
        remembers = tools and not {session, upload}.isdisjoint([*inputs, *outputs])
        call.click(
            on_gpu(plainly(named(handler, choices))), inputs, outputs, api_name=handler.__name__,
            api_visibility="undocumented" if remembers else "public", **options,
        )  # fmt: skip
