"""Find somebody's work for them: by name or by picture, in three answers that are never mixed, and as a report.

In: a `Desk`, and what was asked, which is checked here. Out: `Work`, HTML and what is taken along. It knows no Gradio.
"""

import torch
from PIL import Image

from attribution.answer.copies import told
from attribution.errors import InputError
from attribution.looks.influence import influence
from attribution.page.desk import Desk
from attribution.page.inputs import words
from attribution.pictures.collection import as_rgb
from attribution.pictures.optout import plain
from attribution.report.artist import Work, artist_report, removed_list
from attribution.report.report import picture_hash
from attribution.report.signature import ARTIST, REMOVED

NEAREST = 6  # training images that look most like a picture
SHOWN = 24  # pictures of a kind


def by_name(desk: Desk, name: object) -> tuple[Work | None, list[str]]:
    """Find an artist's work, or, where several fit what was typed or none, their names."""
    wanted = plain(words(name, "the name", 200))
    if not wanted:
        raise InputError("type a name first, or bring a picture")
    every = desk.visible.names("artist")
    same = [each for each in every if plain(each) == wanted]
    fitting = same or [each for each in every if wanted in plain(each)]
    if len(fitting) != 1:
        return None, fitting
    mask = desk.visible.by(fitting[0])
    found = influence([example.answer for example in desk.examples], mask)
    return Work(fitting[0], rows=tuple(mask.nonzero()[:, 0].tolist()), influence=found), fitting


def by_picture(desk: Desk, image: Image.Image) -> Work:
    """Find the training images that a picture is or nearly copies, those that look like it, and what leans on the former."""
    its, visible = desk.attributor, desk.visible

    def looked(seat: int) -> tuple:
        one = desk.at(seat, its.method)
        return one.copies(image), one.alike(image) if its.look_alikes else None

    copies, alike = desk.line.compute(looked)
    rows = [copy.row for copy in copies or ()]
    said = [
        told(visible.file(c.row), visible.labels(c.row).get("artist", ""), c.same, c.mirrored)
        for c in copies or ()
    ]
    mask = torch.zeros(len(visible), dtype=torch.bool)
    mask[rows] = True
    best = [] if alike is None else visible.best(alike, NEAREST)
    return Work(
        picture=picture_hash(as_rgb(image)), rows=tuple(rows),
        copies=None if copies is None else tuple(said),
        nearest=None if alike is None else tuple((row, float(alike[row])) for row in best),
        influence=influence([example.answer for example in desk.examples], mask) if rows else None,
    )  # fmt: skip


def report_of(desk: Desk, work: Work) -> dict:
    """Write somebody's work down."""
    pictures = [(example.prompt, example.seed) for example in desk.examples]
    return desk.signed(artist_report(desk.attributor, work, pictures, desk.contact), ARTIST)


def shown(desk: Desk, work: Work) -> str:
    """Show somebody's work, with its report."""
    return desk.views.mine(work, report_of(desk, work), desk.examples, desk.contact, SHOWN)


def shown_by_name(desk: Desk, name: object) -> str:
    """Show an artist's work, or the names to choose from."""
    work, names = by_name(desk, name)
    return desk.views.who(names) if work is None else shown(desk, work)


def removed(desk: Desk) -> str:
    """Show what was removed, and when."""
    return desk.views.removed(desk.signed(removed_list(desk.attributor), REMOVED))
