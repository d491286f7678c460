"""What happens before anybody has pressed anything: a visitor arrives, by a link perhaps, and leaves."""

import json
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from attribution.answer.questions import GENERAL
from attribution.errors import InputError
from attribution.page.browsing import browse
from attribution.page.choices import OWN, in_link
from attribution.page.desk import no_method
from attribution.page.events import (
    NEWEST,
    PRIVATE,
    QUICK,
    REFUSED,
    numbered,
    plainly,
    sentence_of,
)
from attribution.page.guards import data_of
from attribution.page.hall import Hall
from attribution.page.inputs import whole, words
from attribution.page.language import say
from attribution.page.panels.ask import DRAW
from attribution.page.panels.collection import any_of
from attribution.page.panels.mix import shown_for
from attribution.page.session import LAST_SEED, SEED, Session
from attribution.page.states import States

LONGEST = 10_000  # characters of an address


@dataclass(frozen=True)
class Handlers:
    """What a visitor finds."""

    hall: Hall

    @plainly
    def start(self, session: Session | None) -> tuple:
        """Fill the page for a visitor with what may be shown now: no row is in it before."""
        desk, views, names = self.hall.desk, self.hall.desk.views, self.hall.desk.visible.names
        columns = ("artist", "artist", desk.choices.column)
        lists = [gr.Dropdown([any_of(), *(names(column) if column else [])]) for column in columns]
        if session:  # their own picture was quicker
            answer = [gr.skip()] * 5
        elif desk.examples:
            seen = desk.seen(None, None, "", [], 1.0)
            ranked = views.ranked(seen, linked=False)  # the address is still the visitor's own
            answer = gr.skip(), gr.skip(), ranked, views.artists(seen), views.as_table(seen)
        else:
            answer = views.welcome(), "", "", "", ""
        return *answer, *lists, browse(desk, "", "", "", 1), desk.vocabulary.told()

    @plainly
    def arrive(self, request: gr.Request) -> list:
        """Restore what the address says; where it says what cannot be, that is told, and the page opens all the same."""
        try:
            return self.restored(dict(request.query_params), 0)
        except InputError as error:
            gr.Warning(sentence_of(error), title=say(REFUSED))
            return self.restored({}, 0)

    @plainly
    def back(self, turn: object, event: gr.EventData, request: gr.Request) -> list:
        """Restore what the address says that a visitor went back to; without any, the first example."""
        self.hall.newest(request, turn)
        query = words(data_of(event).get("query"), "the address", LONGEST).removeprefix("?")
        first = self.hall.desk.first()
        if not query and first:
            query = urlencode({"prompt": first.prompt, "seed": first.seed})
        return self.restored(dict(parse_qsl(query)), whole(turn, "the turn", 0, 10**9))

    def restored(self, query: dict[str, str], turn: int) -> list:
        """Read prompt, seed, method, mix, a phrase of one's own and artist; `turn` makes what is wanted new."""
        desk, choices = self.hall.desk, self.hall.desk.choices
        amounts, own = mix_of(query, choices.questions)
        prompt = words(query.get("prompt"), "the link's prompt", desk.max_prompt)
        seed = whole(query.get("seed", SEED), "the link's seed", 0, LAST_SEED)
        artist = words(query.get("artist"), "the artist", 200)
        method = query.get("method", desk.attributor.method)
        if method not in desk.by_method:
            raise no_method(method[:80], desk.by_method)
        wished = json.dumps({**own, "turn": turn, "method": method}) if own else gr.skip()
        told = bool(prompt) or (choices.reads == "nothing" and "seed" in query)
        wanted = f"{prompt} {seed} {method} {turn}" if told else gr.skip()
        if not told:  # what the example says may stay
            prompt = seed = gr.skip()
        empty = None, desk.views.brought(None), gr.Button(say(DRAW))  # no picture is in the box
        asked = [prompt, seed, method, artist, wanted, wished]
        return [*asked, *empty, *shown_for(choices, amounts, bool(own)), *amounts]


def mix_of(query: dict[str, str], questions: tuple[str, ...]) -> tuple[list[float], dict]:
    """Read the amounts of the questions, and a phrase of one's own with all amounts, its own last.

    A phrase is learned first: where the mix is of nothing else, the whole picture is asked about until then.
    """
    whole_picture = [float(name == GENERAL) for name in questions]
    phrases = [name for name in query if name.startswith(OWN)]
    places = [*map(in_link, questions), *phrases]
    if not any(place in query for place in places):
        return whole_picture, {}
    try:
        found = [float(query.get(place, 0)) for place in places]
    except ValueError as error:
        raise InputError("the link's sliders are no numbers; copy it again") from error
    found = [amount if 0 <= amount <= 1 else 0.0 for amount in found]
    amounts, own = found[: len(questions)], {}
    if phrases:
        phrase = words(phrases[-1].removeprefix(OWN), "the concept", 100)
        own = {"phrase": phrase, "amounts": [*amounts, found[-1]]}
    return amounts if any(amounts) else whole_picture, own


def connect(
    hall: Hall, demo: gr.Blocks, filled: list, restored: list, asked: gr.HTML, states: States
) -> None:
    """Fill the page when it opens, restore what its link says or a visitor went back to, and forget who leaves."""
    do = Handlers(hall)
    demo.load(do.start, states.session, filled, **QUICK)
    settled = {"fn": None, "js": "() => page.arrived()"}
    demo.load(do.arrive, None, restored, show_progress="hidden", **PRIVATE).then(**settled)
    back = asked.back(do.back, states.turn, restored, js=numbered("again", 1), **QUICK, **NEWEST)
    back.then(**settled)
    demo.unload(hall.leave)
