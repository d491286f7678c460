"""What happens before anybody has pressed anything: a visitor arrives, by a link perhaps, and leaves."""

from dataclasses import dataclass

import gradio as gr

from attribution.answer.questions import GENERAL
from attribution.errors import InputError
from attribution.page.desk import ANY
from attribution.page.events import PRIVATE, QUICK, plainly
from attribution.page.hall import Hall
from attribution.page.inputs import whole, words
from attribution.page.session import LAST_SEED, SEED, Session
from attribution.page.states import States
from attribution.page.views import QUESTIONS


@dataclass(frozen=True)
class Handlers:
    """What a visitor finds."""

    hall: Hall

    @plainly
    def start(self, session: Session | None) -> tuple:
        """Fill the page for a visitor with what may be shown now: no row is in it before."""
        desk, views, names = self.hall.desk, self.hall.desk.views, self.hall.desk.visible.names
        lists = [gr.Dropdown([ANY, *names(column)]) for column in ("artist", "artist", "style")]
        if session:  # their own picture was quicker
            answer = [gr.skip()] * 4
        elif desk.examples:
            seen = desk.seen(None, None, "", [], 1.0)
            ranked = views.ranked(seen, linked=False)  # the address is still the visitor's own
            answer = gr.skip(), ranked, views.artists(seen), views.as_table(seen)
        else:
            answer = views.welcome(), "", "", ""
        return *answer, *lists, desk.browse("", "", "", 1)

    @plainly
    def arrive(self, request: gr.Request) -> tuple:
        """Restore what a link says: prompt, seed, mix and artist."""
        query = dict(request.query_params)
        amounts = [float(name == GENERAL) for name in QUESTIONS.values()]
        if any(name in query for name in QUESTIONS.values()):
            try:
                amounts = [float(query.get(name, 0)) for name in QUESTIONS.values()]
            except ValueError as error:
                raise InputError("the link's sliders are no numbers; copy it again") from error
            amounts = [amount if 0 <= amount <= 1 else 0.0 for amount in amounts]
        prompt = words(query.get("prompt"), "the link's prompt", self.hall.desk.max_prompt)
        seed = whole(query.get("seed", SEED), "the link's seed", 0, LAST_SEED)
        artist = words(query.get("artist"), "the artist", 200)
        wanted = f"{prompt} {seed}" if prompt else gr.skip()
        return prompt, seed, artist, wanted, *amounts


def connect(hall: Hall, demo: gr.Blocks, filled: list, restored: list, states: States) -> None:
    """Fill the page when it opens, restore what its link says, and forget who leaves."""
    do = Handlers(hall)
    demo.load(do.start, states.session, filled, **QUICK)
    demo.load(do.arrive, None, restored, show_progress="hidden", **PRIVATE)
    demo.unload(hall.leave)
