"""What happens before anybody has pressed anything: a visitor arrives, by a link perhaps, and leaves."""

from dataclasses import dataclass

import gradio as gr

from attribution.answer.questions import GENERAL
from attribution.errors import InputError
from attribution.page.choices import in_link
from attribution.page.desk import ANY
from attribution.page.events import PRIVATE, QUICK, plainly
from attribution.page.hall import Hall
from attribution.page.inputs import whole, words
from attribution.page.session import LAST_SEED, SEED, Session
from attribution.page.states import States


@dataclass(frozen=True)
class Handlers:
    """What a visitor finds."""

    hall: Hall

    @plainly
    def start(self, session: Session | None) -> tuple:
        """Fill the page for a visitor with what may be shown now: no row is in it before."""
        desk, views, names = self.hall.desk, self.hall.desk.views, self.hall.desk.visible.names
        columns = ("artist", "artist", desk.choices.column)
        lists = [gr.Dropdown([ANY, *(names(column) if column else [])]) for column in columns]
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
        query, choices = dict(request.query_params), self.hall.desk.choices
        amounts = [float(name == GENERAL) for name in choices.questions]
        places = [in_link(name) for name in choices.questions]
        if any(place in query for place in places):
            try:
                amounts = [float(query.get(place, 0)) for place in places]
            except ValueError as error:
                raise InputError("the link's sliders are no numbers; copy it again") from error
            amounts = [amount if 0 <= amount <= 1 else 0.0 for amount in amounts]
        prompt = words(query.get("prompt"), "the link's prompt", self.hall.desk.max_prompt)
        seed = whole(query.get("seed", SEED), "the link's seed", 0, LAST_SEED)
        artist = words(query.get("artist"), "the artist", 200)
        whole_prompt = prompt or (choices.reads == "nothing" and "seed" in query)
        wanted = f"{prompt} {seed}" if whole_prompt else gr.skip()
        return prompt, seed, artist, wanted, *amounts


def connect(hall: Hall, demo: gr.Blocks, filled: list, restored: list, states: States) -> None:
    """Fill the page when it opens, restore what its link says, and forget who leaves."""
    do = Handlers(hall)
    demo.load(do.start, states.session, filled, **QUICK)
    demo.load(do.arrive, None, restored, show_progress="hidden", **PRIVATE)
    demo.unload(hall.leave)
