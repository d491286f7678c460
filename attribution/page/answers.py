"""Write an answer as HTML: the picture and its verdict, the ranking, artists, a closer look.

In: a `Session`. Out: HTML. It knows no handler and no layout.
"""

import torch
from PIL import Image

from attribution.answer.likeness import NEAREST, ranks
from attribution.answer.questions import GENERAL
from attribution.answer.shares import portions
from attribution.answer.verdict import STEPS
from attribution.looks.shared import sentence, shared
from attribution.page.choices import OWN, question_of
from attribution.page.html import as_data, render
from attribution.page.language import say
from attribution.page.session import COUNT, FIRST, Session
from attribution.page.training import TrainingViews
from attribution.report.credentials import Credentials
from attribution.report.document import plot
from attribution.sentence import Sentence, in_a_row

SMALLEST = 0.01  # share of an artist that is shown
ENLARGED = 192  # pixels that the traced picture is shown with

UNSHARED = (
    "Artists' shares need the score of every training picture, and here the first alone are known."
)


class AnswerViews(TrainingViews):
    """Write HTML for answers."""

    def asked(self, session: Session) -> str:
        """Show the picture, and the words that its model never learned."""
        width, height = session.image.size
        small = f"{width} x {height}" if max(width, height) < ENLARGED else ""
        return render(
            "asked", picture=as_data(session.image), prompt=session.prompt, seed=session.seed,
            small=small, unknown=session.unknown, credentials=self.credentials(session.credentials),
        )  # fmt: skip

    def credentials(self, said: Credentials | None) -> str:
        """Show what an upload's Content Credentials say."""
        return "" if said is None else render("credentials", said=said)

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

    def as_table(self, session: Session) -> str:
        """Show the ranking as a table."""
        columns = {"rank": "rank", "score": "score", "share": "share", "likeness": "likeness"}
        columns |= {"artist": "artist"} if self.choices.artists else {}
        columns |= {self.choices.column: "kind"} if self.choices.column else {}
        columns |= {"caption": "caption"}
        columns |= {"license": "license"} if self.visible.has("license") else {}
        about = render("table", rows=self.table(session), columns=columns)
        return self.judged(session, "table", about)

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

    def heat(self, row: int, image: Image.Image | None, text: str = "") -> str:
        """Show where in the picture the evidence for a training image lies, or say why it is not known."""
        return render("heat", row=row, picture=image and as_data(image), text=text)
