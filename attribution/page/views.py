"""Write what a visitor sees as HTML: all of the page that is no answer, and, by what it builds on, answers and training images.

In: a `Session`, or rows of the collection. Out: HTML from the templates beside this file, which escape every text;
pictures are in it as data, so that no file is served. It knows no handler and no layout.
"""

from PIL import Image

from attribution.looks.examples import Example
from attribution.looks.own import OwnConcept
from attribution.looks.unlearning import RETRAINED, WhatIf
from attribution.page.answers import AnswerViews
from attribution.page.figures import figures
from attribution.page.html import THUMBNAIL, as_data, as_json, as_links, render
from attribution.page.language import say
from attribution.report.artist import Work, artist_html, removal
from attribution.report.signature import FIELD


class Views(AnswerViews):
    """Write HTML for one model and its collection."""

    def drawer(self) -> str:
        """Make the drawer that a closer look opens in."""
        return render("drawer")

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

    def limits(self, key: str) -> str:
        """Say what the page can and cannot tell, how often it is wrong where that was measured, and who signs."""
        return render("limits", figures=figures(), choices=self.choices, key=key)
