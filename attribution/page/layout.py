"""Lay the panels out on one page, and connect each with those that it changes.

In: a `Hall`. Out: `gr.Blocks`. It knows no handler but those that a panel names.
"""

import gradio as gr

from attribution.page.endpoints import offer
from attribution.page.hall import Hall
from attribution.page.language import say
from attribution.page.panels import (
    answer,
    arrival,
    artists,
    ask,
    closer,
    collection,
    limits,
    mine,
    mix,
    own,
    ranking,
    report,
    table,
    what_if,
)
from attribution.page.states import HOUR, new_states

CLEANING = 600  # seconds between two looks for what is older than an hour
TITLE = "Where does this picture come from?"


def create_demo(hall: Hall, tools: bool = False) -> gr.Blocks:
    """Lay out the page, and connect it; `tools` says whether endpoints are offered as tools, too."""
    desk, views, choices = hall.desk, hall.desk.views, hall.desk.choices
    title = say(TITLE)
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(CLEANING, HOUR)) as demo:
        states = new_states()
        gr.HTML(views.title(title, hall.about), elem_id="title")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab(say("Trace"), id="trace"):
                way = ask.lay_out(desk)
                with gr.Row(elem_id="answer"):
                    shown = answer.lay_out(desk)
                    with gr.Column(scale=3, min_width=300):
                        mixed = mix.lay_out(desk)
                        order = ranking.lay_out()
                look = closer.lay_out(views)
                first = "artists" if choices.artists else "what if" if choices.forgets else "report"
                with gr.Tabs(elem_id="more", selected=first):
                    shares = artists.lay_out(choices.artists)
                    leaving = what_if.lay_out(views, choices)
                    along = report.lay_out(views)
                    tabular = table.lay_out()
            library = collection.lay_out(choices)
            own_work = mine.lay_out(desk)
            limits.lay_out(views, desk.key)
        offer(hall, states, tools)  # first, so that programs get the names

        looking = [states.session, states.marks, states.artist, states.own, *mixed.every]
        written = [shown.verdict, order.ranked, shares.artists, tabular.table]
        ranks = ranking.event(hall, states, looking, written)
        answers = ask.connect(hall, way, shown.asked, mixed.method, states)
        drawn = [states.session, shown.asked, way.prompt, tabs]
        answers.append(collection.connect(hall, library, drawn, states))
        answers.append(mine.connect(hall, own_work, drawn, states))
        gone = [look.closer, leaving.leaving, leaving.different, along.taken]
        answer.connect(hall, answers, states, gone, ranks)
        mix.connect(choices, mixed, ranks)
        artists.connect([order.ranked, shares.artists], states, ranks)
        ranking.connect(hall, order, leaving.leaving, states, ranks)
        closer.connect(hall, look, order.ranked, states, looking)
        own.connect(hall, mixed.own, mixed.every, states, ranks)
        what_if.connect(hall, leaving, states)
        report.connect(hall, along, looking)
        filled = [shown.asked, *written, leaving.whose]
        filled += [library.artist, library.kind, library.found, way.known]
        restored = [way.prompt, way.seed, mixed.method, states.artist, states.wanted, states.wished]
        restored += [states.upload, *way.shows, mixed.question, mixed.mixing, *mixed.sliders]
        arrival.connect(hall, demo, filled, restored, shown.asked, states)
    return demo
