"""Look closer at one training image: what is known of it, which layers spoke, and where in the picture its evidence lies.

In: a `Desk`, what a visitor looks at, and a row. Out: HTML. It knows no Gradio.
"""

from attribution.looks.depth import by_block, depth
from attribution.looks.regions import blend
from attribution.page.desk import Desk
from attribution.page.language import say
from attribution.page.session import Session


def closer(desk: Desk, seen: Session, row: int) -> str:
    """Show one training image beside the picture, with all that is known of it."""
    found = depth(desk.by_method[seen.method], seen.answer, desk.visible.shown(row), **seen.mix)
    return desk.views.closer(seen, row, by_block(found))


def where(desk: Desk, seen: Session, row: int) -> str:
    """Draw where in the picture the evidence for a training image lies, or say that it is not known."""
    desk.visible.shown(row)
    if not desk.choices.maps:
        family = desk.choices.model["family"]
        unknown = "Where in the picture its evidence lies is not known for a {family}."
        return desk.views.heat(row, None, say(unknown, family=family))
    if not seen.regions:
        found = desk.line.compute(
            lambda seat: desk.at(seat, seen.method).regions(seen.image, seen.answer)
        )
        seen.regions.append(found)
    evidence = seen.regions[0].map(row, **seen.mix)
    return desk.views.heat(
        row, blend(seen.image, evidence, desk.attributor.model.size_for(seen.image))
    )
