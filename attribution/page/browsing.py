"""Browse the collection: search it, turn its pages, and see which of the model's pictures lean on one training image.

In: a `Desk`, and what was typed or pressed, which is checked here. Out: rows, and HTML. It knows no Gradio.
"""

from attribution.looks.examples import leaning_on
from attribution.page.desk import ANY, Desk
from attribution.page.html import as_data
from attribution.page.inputs import whole, words
from attribution.page.session import Session

PAGE_SIZE = 24  # training images on a page of the collection
LEANING = 8  # pictures that lean on a training image


def search(desk: Desk, text: object, artist: object, kind: object) -> tuple[list[int], int]:
    """Find the rows whose caption, artist or labels hold all words of a text; `kind` is of `choices.column`.

    Counted beside are all that are withheld: how many of them fit would tell what they hold.
    """
    wanted = words(text, "the search", 200).lower().split()
    artist, column = words(artist, "the artist", 200), desk.choices.column
    kind = words(kind, "the kind", 200)
    found = []
    for row, caption, about in desk.visible.described():
        everything = " ".join([caption, *about.values()]).lower()
        fits = all(word in everything for word in wanted)
        fits = fits and artist in ("", ANY, about.get("artist"))
        if fits and kind in ("", ANY, about.get(column)):
            found.append(row)
    return found, desk.visible.withheld()


def browse(desk: Desk, text: object, artist: object, kind: object, page: object) -> str:
    """Show a page of what a search finds."""
    found, hidden = search(desk, text, artist, kind)
    pages = max(1, -(-len(found) // PAGE_SIZE))
    page = whole(page, "the page", 1, pages)
    some = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return desk.views.browsed(some, page, pages, len(found), hidden)


def opened(desk: Desk, row: int, recent: list[Session], mix: dict[str, float]) -> str:
    """Show one training image, and which of the model's pictures lean on it."""
    desk.visible.shown(row)
    answers = [e.answer for e in desk.examples] + [s.answer for s in recent]
    pictures = [(e.image, e.prompt) for e in desk.examples] + [(s.image, s.prompt) for s in recent]  # fmt: skip
    leaning = [
        {"number": n, "score": score, "picture": as_data(pictures[n][0], 160), "prompt": pictures[n][1]}
        for n, score in leaning_on(answers, row, LEANING, **mix)
    ]  # fmt: skip
    return desk.views.opened(row, leaning)
