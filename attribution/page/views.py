"""Write what a visitor sees as HTML: the picture and its verdict, the ranking, a closer look, artists, the collection.

In: a `Session`, or rows of the collection. Out: HTML from the templates beside this file, which escape every text;
pictures are in it as data, so that no file is served. It knows no handler and no layout.
"""

import base64
import io
import json
from functools import lru_cache
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from attribution.answer.calibration import Calibration
from attribution.answer.copies import Copy, told
from attribution.answer.likeness import NEAREST, ranks
from attribution.answer.questions import GENERAL
from attribution.answer.shares import portions
from attribution.attributor import Attributor
from attribution.looks.examples import Example
from attribution.looks.own import OwnConcept
from attribution.looks.unlearning import WhatIf
from attribution.page.choices import OWN, WHOLE, Choices, question_of
from attribution.page.session import COUNT, LEVEL, Session
from attribution.report.credentials import Credentials

SMALLEST = 0.01  # share of an artist that is shown
THUMBNAIL = 160  # pixels, at most
SHOWN = 640  # pixels of the longest side of a picture that is looked at
BINS = 48  # of the null plot
FIGURES = Path(__file__).parents[2] / "benchmarks/results"  # where the project is, not a copy

TEMPLATES = Environment(
    loader=PackageLoader("attribution.page"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


def render(name: str, **values: object) -> str:
    """Fill a template."""
    return TEMPLATES.get_template(f"{name}.html").render(**values)


def as_data(image: Image.Image, side: int = SHOWN) -> str:
    """Write a picture into an address of its own, at most `side` pixels long."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    memory = io.BytesIO()
    small.save(memory, "WEBP", quality=90, method=2)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode()


class Views:
    """Write HTML for one model and its collection."""

    def __init__(self, attributor: Attributor, choices: Choices | None = None) -> None:
        self.visible, self.calibration = attributor.visible, attributor.calibration
        self.choices = choices or Choices.of(attributor)
        self.thumbnail = lru_cache(maxsize=4096)(self._thumbnail)

    def _thumbnail(self, row: int) -> str:
        return as_data(self.visible.image(row), THUMBNAIL)

    def about(self, row: int) -> dict:
        """Give what is said of one training image wherever it is shown."""
        labels = self.visible.labels(row)  # which refuses, and a thumbnail that is kept would not
        column, nobody = self.choices.column, "unknown" if self.choices.artists else ""
        return {
            "row": row,
            "file": self.visible.file(row),
            "picture": self.thumbnail(row),
            "caption": self.visible.caption(row),
            "artist": labels.get("artist", nobody),
            "kind": labels.get(column, "") if column else "",
            "license": labels.get("license", "unknown" if self.visible.has("license") else ""),
        }

    def facts(self, row: int) -> dict[str, str]:
        """Give all that the collection says of one training image."""
        visible = self.visible
        return {"caption": visible.caption(row), **visible.labels(row), "file": visible.file(row)}

    def asked(self, session: Session) -> str:
        """Show the picture, what was asked of it, and whether anything stands out."""
        answer = session.answer
        words = {c: p for c, p in answer.phrases.items() if c != GENERAL}
        p_values = {question_of(c): p for c, p in answer.p_values.items()}
        value = answer.evidence.get(GENERAL)
        return render(
            "asked", picture=as_data(session.image), prompt=session.prompt, seed=session.seed,
            words=words, given=session.given, p_values=p_values, level=LEVEL,
            stands_out=bool(p_values) and answer.stands_out(LEVEL), link=session.link(), own=OWN,
            null=null_plot(self.calibration, value), credentials=session.credentials,
            whole=p_values.get(WHOLE), judged=bool(answer.evidence), model=self.choices.model,
            method=session.method, known=len(self.visible), originals=self.originals(answer.originals()),
            drawn=answer.drawn,
        )  # fmt: skip

    def originals(self, copies: list[Copy]) -> list[dict]:
        """Give the training images that a picture is or nearly copies, with a sentence for each."""
        rows = [(self.about(copy.row), self.visible.file(copy.row), copy) for copy in copies]
        return [
            about | {"told": told(file, self.visible.labels(copy.row).get("artist", ""), copy.same, copy.mirrored)}
            for about, file, copy in rows
        ]  # fmt: skip

    def drawn(self, image: Image.Image, prompt: str) -> str:
        """Show a picture that was just drawn and is not traced yet."""
        return render("drawn", picture=as_data(image), prompt=prompt)

    def ranked(self, session: Session, ticked: list[int] | None = None, linked: bool = True) -> str:
        """Show the training images, most influential first; `linked` gives the browser their address."""
        link = session.link() if linked else ""
        rows = self.table(session)
        for row in rows:
            row["ticked"] = row["row"] in (ticked or [])
        p_value = session.p_value()
        if self.choices.reads == "nothing" and p_value and p_value > LEVEL:
            p_value = None  # such a picture is judged too weakly to say that there is no evidence
        different = session.likeness is not None and sum(not row["alike"] for row in rows)
        return render(
            "ranked", rows=rows, link=link, artist=session.artist, mix=session.mix, question_of=question_of,
            p_value=p_value, level=LEVEL, different=different, seed=session.seed,
            most_alike=self.most_alike(session), known=len(self.visible), forgets=self.choices.forgets,
            hidden=session.answer.hidden_among(COUNT, **session.mix),
        )  # fmt: skip

    def table(self, session: Session) -> list[dict]:
        """Give what is known of each training image that is shown, for all ways of showing it."""
        share = portions(session.answer.mix(**session.mix))
        place = None if session.likeness is None else ranks(session.likeness)
        near, steady = len(self.visible) * NEAREST, session.steady()
        return [
            {
                **self.about(source.index),
                "rank": source.rank,
                "score": source.score,
                "share": float(share[source.index]),
                "likeness": None if place is None else int(place[source.index]),
                "alike": place is None or bool(place[source.index] <= near),
                "steady": None if steady is None else float(steady[source.index]),
            }
            for source in session.shown()
        ]

    def most_alike(self, session: Session, count: int = 6) -> list[dict]:
        """Give the training images that look most like the picture, and whether they are named."""
        if session.likeness is None:
            return []
        named = {source.index for source in session.answer.rank(COUNT, **session.mix)}
        best = self.visible.best(session.likeness, count)
        return [self.about(row) | {"named": row in named} for row in best]

    def artists(self, session: Session) -> str:
        """Show every artist's share, with its interval, as bars."""
        if not self.visible.has("artist"):
            return ""
        shares = [s for s in session.answer.artists(**session.mix) if s.share >= SMALLEST]
        return render("artists", shares=shares, artist=session.artist)

    def closer(self, session: Session, row: int, blocks: dict[str, torch.Tensor]) -> str:
        """Show one training image beside the picture, with all that is known of it."""
        scores = {question_of(n): float(s[row]) for n, s in session.answer.scores.items()}
        image = as_data(self.visible.image(row))
        most = max(float(part.abs().max()) for part in blocks.values()) or 1.0
        depth = [{"name": name, "parts": part.tolist()} for name, part in blocks.items()]
        return render(
            "closer", **self.about(row) | {"picture": image}, asked=as_data(session.image),
            facts=self.facts(row), scores=scores, depth=depth, most=most,
        )  # fmt: skip

    def heat(self, image: Image.Image) -> str:
        """Show where in the picture the evidence lies."""
        return render("heat", picture=as_data(image))

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

    def as_table(self, session: Session) -> str:
        """Show the ranking as a table."""
        columns = {"rank": "rank", "score": "score", "share": "share", "likeness": "likeness"}
        columns |= {"artist": "artist"} if self.choices.artists else {}
        columns |= {self.choices.column: "kind"} if self.choices.column else {}
        columns |= {"caption": "caption"}
        columns |= {"license": "license"} if self.visible.has("license") else {}
        return render("table", rows=self.table(session), columns=columns)

    def strip(self, chosen: list[int], examples: tuple[Example, ...]) -> str:
        """Show examples to choose from."""
        shown = [
            {"number": n, "picture": as_data(examples[n].image, THUMBNAIL), "prompt": examples[n].prompt}
            for n in chosen
        ]  # fmt: skip
        return render("strip", examples=shown)

    def welcome(self) -> str:
        """Say what to do, where there is no example."""
        hidden, artists = self.visible.withheld(), len(self.visible.names("artist"))
        known = len(self.visible) - hidden
        reads = self.choices.reads
        return render("welcome", known=known, artists=artists, hidden=hidden, reads=reads)

    def explained(self, name: str) -> str:
        """Explain a part of the page."""
        return render(f"about_{name}")

    def learned(self, concept: OwnConcept) -> str:
        """Say what came of learning a concept."""
        return render("learned", concept=concept)

    def message(self, text: str) -> str:
        """Say one thing."""
        return render("message", text=text)

    def what_if(self, found: WhatIf, rows: list[int]) -> str:
        """Show the picture before and after, with the control beside it, and the change that was measured."""
        names = ("before", f"without these {len(rows)}", f"control: without {len(rows)} at random")
        images = (found.before, found.after, found.control)
        changes = (
            0.0,
            found.loss_after / found.loss_before - 1,
            found.loss_control / found.loss_before - 1,
        )
        pictures = [
            {"name": name, "picture": as_data(image), "error": error, "apart": apart}
            for name, image, error, apart in zip(
                names, images, changes, (0.0, found.picture_after, found.picture_control), strict=True
            )
        ]  # fmt: skip
        return render("what_if", pictures=pictures, found=found)

    def taken(self, report: dict, page: str, table: str, link: str) -> str:
        """Offer the report as files, and the page's link."""
        files = (
            ("report.html", "text/html", page),
            ("report.json", "application/json", json.dumps(report, indent=1)),
            ("ranking.csv", "text/csv", table),
        )
        links = [
            (name, f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}", len(text))
            for name, kind, text in files
        ]
        return render("taken", links=links, link=link)

    def credentials(self, said: Credentials | None) -> str:
        """Show what an upload's Content Credentials say."""
        return "" if said is None else render("credentials", said=said)

    def limits(self) -> str:
        """Say what the page can and cannot tell, and how often it is wrong where that was measured."""
        return render("limits", figures=figures(), choices=self.choices)


def figures() -> dict[str, list[dict]]:
    """Read what was measured on the shipped model; nothing where that is not here."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))}


def null_plot(calibration: Calibration | None, value: float | None) -> dict | None:
    """Lay out a histogram of unrelated pictures' evidence, and where this picture's lies, in per cent of the width."""
    if calibration is None or value is None:
        return None
    null = calibration.unrelated
    low, high = min(float(null.min()), value), max(float(null.max()), value)
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    counts = torch.histc(null.float(), BINS, low, high)
    bars = [
        (100 * i / BINS, 100 / BINS, 100 * float(count / counts.max()) ** 0.5)
        for i, count in enumerate(counts)
        if count
    ]
    edge = float(null.quantile(1 - LEVEL))
    place = lambda x: 100 * (x - low) / (high - low)  # noqa: E731
    return {"bars": bars, "here": place(value), "edge": place(edge), "count": len(null)}
