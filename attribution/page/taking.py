"""Take an answer along: as a report that somebody else can compute again, as a table, and as a link.

In: a `Desk` and what a visitor looks at. Out: the report, and HTML that holds all files. It knows no Gradio.
"""

from datetime import UTC, datetime

from attribution.page.desk import Desk
from attribution.page.session import COUNT, Session
from attribution.report.document import report_html, sources_csv
from attribution.report.report import make_report
from attribution.report.signature import REPORT


def written(desk: Desk, seen: Session) -> dict:
    """Write down a session's picture, settings and results."""
    report = make_report(
        desk.by_method[seen.method], seen.image, seen.answer, prompt=seen.prompt, seed=seen.seed,
        mix=seen.mix, count=COUNT, artist=str(seen.artist), date=datetime.now(UTC), measured=desk.measured,
    )  # fmt: skip
    return desk.signed(report, REPORT)


def taken(desk: Desk, seen: Session) -> str:
    """Offer the report, the ranking and the link."""
    report = written(desk, seen)
    page = report_html(desk.by_method[seen.method], report, seen.credentials)
    return desk.views.taken(
        report, page, sources_csv(desk.by_method[seen.method], report), seen.link()
    )
