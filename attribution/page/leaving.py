"""Leave training images out: which of them, and what a model draws that was made to forget them.

In: a `Desk`, and what was ticked or chosen, which is checked here. Out: rows, and a `WhatIf`. It knows no Gradio.
"""

from attribution.answer.questions import GENERAL
from attribution.errors import InputError
from attribution.looks.unlearning import WhatIf, what_if
from attribution.page.desk import ANY, Desk
from attribution.page.inputs import words
from attribution.page.session import Session
from attribution.progress import OnStep
from attribution.sentence import Sentence


def to_leave(desk: Desk, ticked: list[int], artist: object) -> list[int]:
    """Give the rows that are ticked, or those of an artist; none that was withheld meanwhile."""
    artist = words(artist, "the artist", 200)
    if artist not in ("", ANY):
        found = desk.visible.by(artist).nonzero()[:, 0].tolist()
    else:
        found = sorted(set(ticked) & set(desk.visible.rows()))
    if not found:
        raise InputError("tick some training pictures first, or choose an artist who is shown")
    return found


def without(desk: Desk, session: Session | None, rows: list[int], on_step: OnStep) -> WhatIf:
    """Draw the picture again by a model that was made to forget some training images."""
    session = session or desk.first()
    if session is None:
        raise InputError("make or upload a picture first")
    if not desk.choices.forgets:
        told = "a {network} has no cross-attention; unlearning moves nothing else"
        raise InputError(Sentence(told, network=desk.choices.model["network"]))
    desk.line.take_all_cores()
    return what_if(
        desk.attributor.model, desk.collection, session.prompt or session.answer.phrases[GENERAL],
        rows, session.answer.scores[GENERAL], session.seed, session.image, desk.unlearning, on_step,
    )  # fmt: skip
