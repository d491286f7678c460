"""Write what is said of single training images: wherever one is shown, and the collection to browse.

In: rows of the collection. Out: HTML; what is withheld is refused. It knows no session.
"""

from functools import lru_cache

from attribution.answer.copies import Copy
from attribution.answer.copies import told as told_of
from attribution.attributor import Attributor
from attribution.page.choices import Choices
from attribution.page.html import THUMBNAIL, as_data, render
from attribution.page.language import say


class TrainingViews:
    """Write HTML for the training images of one model."""

    def __init__(self, attributor: Attributor, choices: Choices | None = None) -> None:
        self.visible, self.calibration = attributor.visible, attributor.calibration
        self.choices = choices or Choices.of(attributor)
        self.thumbnail = lru_cache(maxsize=4096)(self._thumbnail)

    def _thumbnail(self, row: int) -> str:
        return as_data(self.visible.image(row), THUMBNAIL)

    def about(self, row: int) -> dict:
        """Give what is said of one training image wherever it is shown."""
        labels = self.visible.labels(row)  # which refuses, and a thumbnail that is kept would not
        column, unknown = self.choices.column, say("unknown")
        nobody = unknown if self.choices.artists else ""
        return {
            "row": row,
            "file": self.visible.file(row),
            "picture": self.thumbnail(row),
            "caption": self.visible.caption(row),
            "artist": labels.get("artist", nobody),
            "kind": labels.get(column, "") if column else "",
            "license": labels.get("license", unknown if self.visible.has("license") else ""),
        }

    def facts(self, row: int) -> dict[str, str]:
        """Give all that the collection says of one training image."""
        visible = self.visible
        return {"caption": visible.caption(row), **visible.labels(row), "file": visible.file(row)}

    def originals(self, copies: list[Copy]) -> list[dict]:
        """Give the training images that a picture is or nearly copies, with a sentence for each."""
        rows = [(self.about(copy.row), self.visible.file(copy.row), copy) for copy in copies]
        return [
            about | {"told": told_of(file, self.visible.labels(copy.row).get("artist", ""), copy.same, copy.mirrored)}
            for about, file, copy in rows
        ]  # fmt: skip

    def browsed(self, rows: list[int], page: int, pages: int, found: int, hidden: int) -> str:
        """Show a page of the collection."""
        every = [self.about(row) for row in rows]
        return render(
            "browsed", rows=every, page=page, pages=pages, found=found, hidden=hidden,
            known=len(self.visible),
        )  # fmt: skip

    def opened(self, row: int, leaning: list[dict]) -> str:
        """Show one training image, and the model's pictures that lean on it most."""
        about = self.about(row) | {"picture": as_data(self.visible.image(row))}
        return render("opened", **about, facts=self.facts(row), leaning=leaning)

    def leaving(self, ticked: list[int]) -> str:
        """Show what is to be left out."""
        return render(
            "leaving", rows=[self.about(row) for row in ticked if row in self.visible.rows()]
        )

    def message(self, text: str) -> str:
        """Say one thing."""
        return render("message", text=text)
