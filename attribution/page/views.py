"""Write what a visitor sees as HTML: the picture and its verdict, the ranking, a closer look, artists, the collection.

In: a `Session`, or rows of the collection. Out: HTML from the templates beside this file, which escape every text;
pictures are in it as data, so that no file is served. It knows no handler and no layout.
"""

import base64
import io
import json
from functools import lru_cache

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from attribution.answer.copies import Copy
from attribution.answer.copies import told as told_of
from attribution.answer.likeness import NEAREST, ranks
from attribution.answer.questions import GENERAL
from attribution.answer.shares import portions
from attribution.answer.verdict import STEPS
from attribution.attributor import Attributor
from attribution.looks.examples import Example
from attribution.looks.own import OwnConcept
from attribution.looks.shared import sentence, shared
from attribution.looks.unlearning import RETRAINED, WhatIf
from attribution.page.choices import OWN, Choices, question_of
from attribution.page.figures import figures
from attribution.page.language import marked, number, say, told
from attribution.page.session import COUNT, FIRST, Session
from attribution.report.artist import Work, artist_html, removal
from attribution.report.credentials import Credentials
from attribution.report.document import plot
from attribution.report.signature import FIELD
from attribution.sentence import Sentence, in_a_row

SMALLEST = 0.01  # share of an artist that is shown
THUMBNAIL = 160  # pixels, at most
SHOWN = 640  # pixels of the longest side of a picture that is looked at
ENLARGED = 192  # pixels that the traced picture is shown with

UNSHARED = (
    "Artists' shares need the score of every training picture, and here the first alone are known."
)

KINDS = {"html": "text/html", "json": "application/json", "csv": "text/csv"}

TEMPLATES = Environment(
    loader=PackageLoader("attribution.page"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
TEMPLATES.globals["_"] = marked  # "_('...')" says a text, with its HTML
TEMPLATES.filters |= {"said": say, "told": told, "number": number}


def render(name: str, /, **values: object) -> str:
    """Fill a template."""
    return TEMPLATES.get_template(f"{name}.html").render(**values)


def as_data(image: Image.Image, side: int = SHOWN) -> str:
    """Write a picture into an address of its own, at most `side` pixels long."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    memory = io.BytesIO()
    small.save(memory, "WEBP", quality=90, method=2)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode()


def as_json(document: dict) -> str:
    """Write what is taken along as JSON."""
    return json.dumps(document, indent=1)


def as_links(files: dict[str, str]) -> list[tuple[str, str, int]]:
    """Write files into addresses of their own; with each name and size."""
    return [
        (name, f"data:{KINDS[name.rsplit('.')[-1]]};base64,{base64.b64encode(text.encode()).decode()}", len(text))
        for name, text in files.items()
    ]  # fmt: skip


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

    def asked(self, session: Session) -> str:
        """Show the picture, and the words that its model never learned."""
        width, height = session.image.size
        small = f"{width} x {height}" if max(width, height) < ENLARGED else ""
        return render(
            "asked", picture=as_data(session.image), prompt=session.prompt, seed=session.seed,
            small=small, unknown=session.unknown, credentials=self.credentials(session.credentials),
        )  # fmt: skip

    def verdict(self, session: Session) -> str:
        """Say what the answer is worth, and how sure that is."""
        answer = session.answer
        words = [
            (question_of(name), phrase, not name.startswith(OWN) and name not in session.given, p)
            for name, phrase in answer.phrases.items()
            if name != GENERAL
            for p in [None if name.startswith(OWN) else answer.p_values.get(name)]
        ]
        null, value = self.calibration, answer.evidence.get(GENERAL)
        return render(
            "verdict", verdict=session.verdict, steps=STEPS, words=words, method=session.method,
            originals=self.originals(answer.originals()), model=self.choices.model, known=len(self.visible),
            plot=plot(null.unrelated, value) if null and value is not None else None,
        )  # fmt: skip

    def judged(self, session: Session, name: str, about: str) -> str:
        """Put the verdict before what it is about, and what is no evidence behind a press."""
        return render("judged", verdict=session.verdict, name=name, about=about)

    def originals(self, copies: list[Copy]) -> list[dict]:
        """Give the training images that a picture is or nearly copies, with a sentence for each."""
        rows = [(self.about(copy.row), self.visible.file(copy.row), copy) for copy in copies]
        return [
            about | {"told": told_of(file, self.visible.labels(copy.row).get("artist", ""), copy.same, copy.mirrored)}
            for about, file, copy in rows
        ]  # fmt: skip

    def drawn(self, image: Image.Image, prompt: str) -> str:
        """Show a picture that was just drawn and is not traced yet."""
        return render("drawn", picture=as_data(image), prompt=prompt)

    def ranked(self, session: Session, ticked: list[int] | None = None, linked: bool = True) -> str:
        """Show the training images, most influential first; `linked` gives the browser their address."""
        rows = self.table(session)
        for row in rows:
            row["ticked"] = row["row"] in (ticked or [])
        answer = session.answer
        most = max(float(answer.first(1, **{name: 1})[1]) for name in answer.scores)
        link = session.link() or "?"  # of an upload the address says nothing
        return render(
            "ranked", rows=rows, first=FIRST, link=link if linked else "", artist=session.artist,
            mix=in_a_row([Sentence(question_of(name)) for name in session.mix]), evidence=session.verdict.evidence,
            different=session.likeness is not None and sum(not row["alike"] for row in rows),
            most=most, said="" if answer.whole else answer.searched["said"], most_alike=self.most_alike(session),
            forgets=self.choices.forgets, hidden=answer.hidden_among(COUNT, **session.mix),
        )  # fmt: skip

    def table(self, session: Session) -> list[dict]:
        """Give what is known of each training image that is shown, for all ways of showing it."""
        answer = session.answer
        share = portions(answer.mix(**session.mix)) if answer.whole else None
        place = None if session.likeness is None else ranks(session.likeness)
        near, steady = len(self.visible) * NEAREST, session.steady()
        return [
            {
                **self.about(source.index),
                "rank": source.rank,
                "score": source.score,
                "share": None if share is None else float(share[source.index]),
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
        named = {source.index for source in session.shown()}
        best = self.visible.best(session.likeness, count)
        return [self.about(row) | {"named": row in named} for row in best]

    def artists(self, session: Session) -> str:
        """Show every artist's share, with its interval, as bars; or say that it takes every score."""
        if not self.visible.has("artist"):
            return ""
        if not session.answer.whole:
            return self.message(say(UNSHARED))
        shares = [s for s in session.answer.artists(**session.mix) if s.share >= SMALLEST]
        about = render("artists", shares=shares, artist=session.artist)
        return self.judged(session, "artists", about)

    def closer(self, session: Session, row: int, blocks: dict[str, torch.Tensor]) -> str:
        """Show one training image beside the picture, with all that is known of it."""
        answer, known, steady = session.answer, len(self.visible), session.steady()
        scores = {question_of(n): answer.score(row, **{n: 1}) for n in answer.scores}
        more = {}
        if answer.whole:
            share = float(portions(answer.mix(**session.mix))[row])
            more["part of all that stands out"] = say("{share:.1f} %", share=100 * share)
        if session.likeness is not None:
            place = int(ranks(session.likeness)[row])
            more["plain likeness"] = say("number {n:,} of {known:,}", n=place, known=known)
        if steady is not None:
            more["traced again by other chance"] = say(
                "in front {share:.0f} % of the times", share=100 * float(steady[row])
            )
        image = as_data(self.visible.image(row))
        most = max(float(part.abs().max()) for part in blocks.values()) or 1.0
        depth = [{"name": name, "parts": part.tolist()} for name, part in blocks.items()]
        same, others = shared(answer.phrases, self.visible.labels(row), self.choices.words)
        guessed = [name for name in (*same, *others) if name not in session.given]
        return render(
            "closer", **self.about(row) | {"picture": image}, asked=as_data(session.image),
            facts=self.facts(row), more=more, scores=scores, depth=depth, most=most,
            prompt=session.prompt, why=say(sentence(same, others)), guessed=guessed,
        )  # fmt: skip

    def drawer(self) -> str:
        """Make the drawer that a closer look opens in."""
        return render("drawer")

    def heat(self, row: int, image: Image.Image | None, text: str = "") -> str:
        """Show where in the picture the evidence for a training image lies, or say why it is not known."""
        return render("heat", row=row, picture=image and as_data(image), text=text)

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
        about = render("table", rows=self.table(session), columns=columns)
        return self.judged(session, "table", about)

    def strip(self, chosen: list[int], examples: tuple[Example, ...]) -> str:
        """Show examples to choose from."""
        shown = [
            {"number": n, "picture": as_data(examples[n].image, THUMBNAIL), "prompt": examples[n].prompt}
            for n in chosen
        ]  # fmt: skip
        return render("strip", examples=shown)

    def words(self, most: int = 24) -> str:
        """Show words to choose from, the first of every concept, but for what only withheld pictures show."""
        words = {c: list(known) for c, known in self.choices.words.items()}
        for concept in filter(self.visible.has, words):
            names = {*self.visible.names(concept)}
            words[concept] = [value for value in words[concept] if value in names]
        return render("words", words={c: known[:most] for c, known in words.items()})

    def brought(self, image: Image.Image | None) -> str:
        """Show the picture that a visitor has brought, or the place to bring one to."""
        return render("brought", picture=image and as_data(image, THUMBNAIL))

    def leaving(self, ticked: list[int]) -> str:
        """Show what is to be left out."""
        return render(
            "leaving", rows=[self.about(row) for row in ticked if row in self.visible.rows()]
        )

    def title(self, title: str, about: str) -> str:
        """Head the page."""
        return render("title", title=title, about=about)

    def about_model(self) -> str:
        """Say in one line what answers here."""
        name, artists = self.choices.model["name"], len(self.visible.names("artist"))
        about: dict[str, object] = {"name": name, "known": len(self.visible), "artists": artists}
        if not artists:
            return say("“{name}” learned from {known:,} pictures.", **about)
        return say("“{name}” learned from {known:,} pictures by {artists:,} artists.", **about)

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
        """Show the picture before and after, with the controls beside it, and the changes that were measured."""
        if not (found.before and found.after):
            return render("what_if", found=found, count=len(rows), least=RETRAINED[0][0])
        count = len(rows)
        shown = [
            (say("before"), found.before),
            (say("without these {count}", count=count), found.after),
        ]
        shown += [
            (say("control {n}: without {count} at random", n=n, count=count), each)
            for n, each in enumerate(found.controls, 1)
        ]
        pictures = [
            {
                "name": name,
                "picture": as_data(each.image),
                "rise": each.loss / found.before.loss - 1,
                "apart": each.apart,
            }
            for name, each in shown
        ]
        return render("what_if", pictures=pictures, found=found, count=len(rows))

    def taken(self, report: dict, page: str, table: str, link: str) -> str:
        """Offer the report as files, and the page's link."""
        files = {"report.html": page, "report.json": as_json(report), "ranking.csv": table}
        return render("taken", links=as_links(files), link=link)

    def chooser(self) -> str:
        """Make the place to bring a picture to that somebody looks for."""
        return render("chooser")

    def who(self, names: list[str]) -> str:
        """Show which artists fit a name."""
        return render("who", names=names)

    def mine(
        self, work: Work, document: dict, examples: tuple[Example, ...], contact: str, most: int
    ) -> str:
        """Show somebody's work: three answers, how to be removed, and a report to take along."""
        leaning = [
            {"number": n, "share": s, "prompt": examples[n].prompt, "picture": as_data(examples[n].image, THUMBNAIL)}
            for n, s in (work.influence.leaning if work.influence else ())[:most]
        ]  # fmt: skip
        nearest = [self.about(row) | {"cosine": cosine} for row, cosine in work.nearest or ()]
        files = {"my-work.html": artist_html(document), "my-work.json": as_json(document)}
        return render(
            "mine", work=work, mine=[self.about(row) for row in work.rows[:most]], nearest=nearest,
            leaning=leaning, removal=removal(contact), links=as_links(files),
        )  # fmt: skip

    def removed(self, document: dict) -> str:
        """Show what was removed, and when."""
        links, signed = as_links({"removed.json": as_json(document)}), FIELD in document
        return render("removed", removed=document["removed"], links=links, signed=signed)

    def credentials(self, said: Credentials | None) -> str:
        """Show what an upload's Content Credentials say."""
        return "" if said is None else render("credentials", said=said)

    def limits(self, key: str) -> str:
        """Say what the page can and cannot tell, how often it is wrong where that was measured, and who signs."""
        return render("limits", figures=figures(), choices=self.choices, key=key)
