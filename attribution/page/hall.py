"""Hold what all panels share: the desk that answers, visitors' uploads, and the long jobs that they may stop.

In: settings. Out: a `Hall`. It knows no layout.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from attribution.attributor import Attributor
from attribution.cache.origin import Origin, read_origin
from attribution.cache.store import read_header
from attribution.errors import BelongsElsewhere, InputError
from attribution.looks.examples import Example, load_examples
from attribution.models.adapters import split_name
from attribution.models.single_file import split_config
from attribution.page.desk import Desk
from attribution.page.figures import error_rates
from attribution.page.guards import asked_at, wanted
from attribution.page.inputs import whole
from attribution.page.language import say, speak
from attribution.page.line import Easel, Line, OnWait
from attribution.page.session import Session
from attribution.page.settings import Settings
from attribution.page.uploads import Picture, Uploads
from attribution.page.visitors import Visitors
from attribution.pictures.hub import is_hub_id, local_folder
from attribution.progress import OnStep, Pace, said
from attribution.report.signature import Signer
from attribution.sentence import Sentence

LOG = logging.getLogger(__name__)
SHIPPED = Origin("assets/model", "assets/collection")
SHIPPED_CACHE = "assets/cache"
SHIPPED_EXAMPLES = "assets/examples"
EXAMPLES = "examples"  # in a cache's folder
Asking = Callable[[Session, list], Session]
OURS = "A small demonstration model: it learned from {known:,} pictures by {artists} invented workshops."


class Stopped(Exception):
    """A visitor stopped a long job."""


class Superseded(Exception):
    """A visitor asked for something newer, or no longer for this."""


@dataclass(frozen=True)
class Hall:
    """Where visitors come in: one for a served page."""

    desk: Desk
    limit: int = 120  # seconds that a long job may take
    about: str = ""  # what the model is, in a sentence
    visitors: Visitors = field(default_factory=Visitors)
    uploads: Uploads = field(default_factory=Uploads)

    def steps(
        self, request: gr.Request, progress: gr.Progress | None = None, what: str = "",
        limit: int | float = math.inf,
    ) -> OnStep:  # fmt: skip
        """Tell a job's progress and how long it takes yet, and end it when its visitor says so or left, or its time is over."""
        visitor, asked = self.visitors.heard(request.session_hash), asked_at()
        end, pace = time.monotonic() + limit, Pace()
        is_wanted = wanted()

        def on_step(done: int, total: int) -> None:
            self.visitors.still(request.session_hash, visitor)
            if visitor.stopped > asked or not is_wanted():
                raise Stopped
            if time.monotonic() > end:
                told = "this took longer than {limit:.0f} seconds; ask for less"
                raise InputError(Sentence(told, limit=limit))
            if progress is not None:  # one that has told nothing is falsy
                left = pace.left(done, total)
                yet = f", {say(said(left))}" if left else ""
                progress((done, total), desc=f"{say(what)}{yet}")

        return on_step

    def newest(self, request: gr.Request, turn: object) -> None:
        """Take a question's number from its visitor's browser, and refuse one that a newer question has overtaken."""
        number = whole(turn or 0, "the turn", 0, 10**9)
        visitor = self.visitors.heard(request.session_hash)
        if number < visitor.turn:
            raise Superseded
        visitor.turn = number

    def answers(self, request: gr.Request, turn: object) -> None:
        """Note that a question's answer is on its way to the browser, unless a newer question has overtaken it."""
        self.newest(request, turn)
        visitor = self.visitors.heard(request.session_hash)
        visitor.answered = visitor.turn

    def take_back(self, request: gr.Request, turn: object) -> bool:
        """Overtake the question before this one; False where its answer was on its way."""
        self.newest(request, turn)
        visitor = self.visitors.heard(request.session_hash)
        return visitor.answered != visitor.turn - 1

    def asking(
        self, request: gr.Request, turn: object, progress: gr.Progress
    ) -> tuple[OnStep, OnWait]:
        """Tell how far a question's drawing is, and how long it waits; both end when its visitor left or asks anew."""
        told, is_wanted = progress, wanted()

        def check() -> None:
            self.newest(request, turn)
            if not is_wanted():
                raise Superseded

        def on_step(done: int, total: int) -> None:
            check()
            told((done, total), desc=say("Drawing"))

        def on_wait(before: int, seconds: float) -> None:
            check()
            told(0.0, desc=waits(before, seconds))  # without a share, gradio shows nothing

        check()
        return on_step, on_wait

    def opened(
        self, session: Session, own: list, ask: Asking, request: gr.Request, turn: object
    ) -> Session:
        """Ask a known picture about a visitor's own concepts by `ask`, where it was not yet; refuse if it was overtaken meanwhile."""
        if self.desk.unasked(session, own):
            session = ask(session, own)
            self.newest(request, turn)
        return session

    def taken(self, request: gr.Request, upload: dict | None) -> Picture:
        """Give a picture that was brought for one question, and forget it; the visitor's own stays."""
        visitor = f"{request.session_hash}: once"
        try:
            return self.uploads.take(visitor, (upload or {}).get("path"))
        finally:
            self.uploads.clear(visitor)

    def stop(self, request: gr.Request) -> None:
        """Stop a visitor's long jobs, those that still wait, too; not what they ask for later."""
        self.visitors.heard(request.session_hash).stopped = asked_at()

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor."""
        self.stop(request)
        self.visitors.forget(request.session_hash)
        self.uploads.clear(request.session_hash)


def waits(before: int, seconds: float) -> str:
    """Say how many questions come before one, and how long that takes; or, before none, how long its own turn does."""
    about = max(1, round(seconds))
    if before:
        return say("{before} before you, about {s} s", before=before, s=about)
    return say("Comparing with every training picture, about {s} s", s=about)


def load(settings: Settings) -> Hall:
    """Load what the settings name, else what the first cache was made from, else what is shipped."""
    speak(settings.language)
    if settings.examples and not Path(settings.examples).is_dir():
        raise InputError(
            f"there is no folder {settings.examples}, which ATTRIBUTION_EXAMPLES names; check the path"
        )
    refuse_twice(settings.cache)
    first, *rest = settings.cache
    told = read_origin(first)
    origin = told or SHIPPED
    parts = [part for part in split_config(split_name(origin.model)[0]) if part]
    for what, place, given in (
        *(("model", part, settings.model) for part in parts),
        ("collection", origin.collection, settings.collection),
    ):
        if told and not given and not is_hub_id(place) and not Path(place).exists():
            raise InputError(
                f"{first} was made from the {what} {place}, which is not there; say with "
                f"ATTRIBUTION_{what.upper()} where it is now"
            )
    attributor = Attributor.from_pretrained(
        settings.model or origin.model, first, settings.collection or origin.collection,
        settings.device, settings.opt_out or None, settings.follow_links, settings.search,
    )  # fmt: skip
    others = tuple(attributor.with_cache(folder) for folder in rest)
    if unasked := [c for c in attributor.collection.concepts if c not in attributor.weights]:
        LOG.warning(
            "%s has no weights for %s, which is not asked about; run python -m precompute all (or weights) again",
            first, ", ".join(unasked),
        )  # fmt: skip
    named = Path(settings.examples) if settings.examples else None
    examples = ready(named or attributor.cache.folder / EXAMPLES, attributor)
    if not examples and not named:
        examples = ready(Path(SHIPPED_EXAMPLES), attributor)
    ours = same_place(attributor.model.name, SHIPPED.model)
    measured = error_rates() if ours and same_place(first, SHIPPED_CACHE) else []
    signer = Signer.in_folder(settings.key) if settings.key else None
    easel = Easel(Line.of(attributor.model))
    desk = Desk(
        attributor, others, examples, max_prompt=settings.max_prompt, easel=easel, signer=signer, contact=settings.contact, measured=tuple(measured),
    )  # fmt: skip
    about = settings.about or (ours_of(desk) if ours else desk.views.about_model())
    return Hall(desk, settings.time_limit, about)


def refuse_twice(caches: Sequence[str]) -> None:
    """Refuse two caches of one method: the page offers methods, and only one of both could answer."""
    known: dict[str, str] = {}
    for name in caches:
        method = (read_header(local_folder(name, "cache")) or {}).get("method", "")
        if method and method in known:
            told = f"the caches {known[method]} and {name} are both of {method}"
            raise InputError(f"{told}; name one cache of each method in ATTRIBUTION_CACHE")
        known[method] = name


def ours_of(desk: Desk) -> str:
    """Say what the shipped model is."""
    artists = len(desk.visible.names("artist"))
    return say(OURS, known=len(desk.visible), artists=artists)


def same_place(one: str, other: str) -> bool:
    """Tell whether two names lead to one folder."""
    return Path(one).resolve() == Path(other).resolve()


def ready(folder: Path, attributor: Attributor) -> tuple[Example, ...]:
    """Load examples; those of another model or of other questions are left out, which the log tells."""
    if not folder.is_dir():
        return ()
    try:
        return tuple(load_examples(folder, attributor))
    except BelongsElsewhere as error:
        if folder != Path(SHIPPED_EXAMPLES):
            LOG.warning("%s; the page starts without examples", error)
        return ()
