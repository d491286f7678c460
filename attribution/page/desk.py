"""Answer what visitors ask: attribute a picture, look closer, learn a concept, leave images out, browse, report.

In: an `Attributor` and what a visitor sent, which is checked here. Out: sessions, and HTML written by `views`. One
desk serves all visitors and keeps nothing of any of them. It knows no Gradio.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from PIL import Image

from attribution.answer.answer import Answer
from attribution.answer.copies import Copy
from attribution.answer.questions import GENERAL
from attribution.answer.shares import Share, portions
from attribution.attributor import Attributor
from attribution.concepts import full_prompt, named_in
from attribution.errors import InputError
from attribution.looks.depth import by_block, depth
from attribution.looks.examples import Example, leaning_on, varied
from attribution.looks.own import OwnConcept, learn_concept, with_concept
from attribution.looks.phrases import unknown_words, words_in
from attribution.looks.regions import Regions, blend
from attribution.looks.stability import stability
from attribution.looks.unlearning import UnlearnConfig, WhatIf, what_if
from attribution.page.choices import OWN, Choices
from attribution.page.inputs import MAX_PROMPT, whole, words
from attribution.page.line import Easel, Line, OnWait, unheard
from attribution.page.session import COUNT, LAST_SEED, LEVEL, SEED, Marks, Session, as_mix
from attribution.page.views import Views, as_data
from attribution.pictures.collection import Collection
from attribution.pictures.optout import Visible
from attribution.progress import OnStep
from attribution.report.document import report_html, sources_csv
from attribution.report.report import make_report
from attribution.report.signature import REPORT, Signer

ANY = "(any)"
NOBODY = "nobody who is shown"  # stands for a name that is withheld or unknown
PAGE_SIZE = 24  # training images on a page of the collection
FORGETTING = 40  # steps of what-if, at most
LITTLE = {
    "and",
    "the",
    "with",
    "for",
    "from",
    "into",
    "over",
    "under",
    "near",
    "its",
    "that",
}  # name nothing
MOST_WORDS = 20_000  # that are sent with the page
SHORTEST = 3  # letters of a word that may name something
LEANING = 8  # pictures that lean on a training image


@dataclass(frozen=True)
class Desk:
    """A model with its cache, by one method or several, and answers that were made before."""

    attributor: Attributor
    others: tuple[Attributor, ...] = ()  # by other methods, of the same model and collection
    examples: tuple[Example, ...] = ()
    own_queries: int = 48  # pictures that an own concept's weights are learned from
    max_prompt: int = MAX_PROMPT  # characters
    unlearning: UnlearnConfig = field(default_factory=lambda: UnlearnConfig(steps=FORGETTING))
    signer: Signer | None = None  # of reports
    contact: str = ""  # for whoever wants to be removed
    measured: tuple[dict, ...] = ()  # how often such verdicts are wrong, where that is known
    marked: dict[int, Marks] = field(default_factory=dict)  # of examples
    copied: dict[int, tuple[Copy, ...] | None] = field(default_factory=dict)  # of examples
    mapped: list[Regions] = field(default_factory=list)  # of the first example
    easel: Easel = field(default_factory=Easel)
    vocabulary: dict[bytes, frozenset[str]] = field(default_factory=dict)  # by who is withheld
    seated: dict[tuple[int, Attributor], Attributor] = field(default_factory=dict)

    @property
    def by_method(self) -> dict[str, Attributor]:
        """Name the attributors by their methods."""
        return {each.method: each for each in (self.attributor, *self.others)}

    @property
    def collection(self) -> Collection:
        """Give the training images."""
        return self.attributor.collection

    @property
    def visible(self) -> Visible:
        """Give the training images as they may be shown."""
        return self.attributor.visible

    @cached_property
    def choices(self) -> Choices:
        """Say what there is to choose from."""
        return Choices.of(self.attributor)

    @cached_property
    def views(self) -> Views:
        """Write HTML for the collection."""
        return Views(self.attributor, self.choices)

    @cached_property
    def worker(self) -> Attributor:
        """Give long jobs a model of their own, so that they block nobody."""
        return self.attributor.beside()

    @property
    def line(self) -> Line:
        """Give the seats on which questions are computed."""
        return self.easel.line

    def at(self, seat: int, method: str) -> Attributor:
        """Give a seat's own attributor of a method, since gradients hook into the model's layers."""
        its = self.by_method[method]
        if (seat, its) not in self.seated:
            self.seated[seat, its] = its.beside()
        return self.seated[seat, its]

    def first(self) -> Session | None:
        """Give the answer that is shown before anybody asks."""
        if not self.examples:
            return None
        return replace(self.opened(self.chosen(1)[0]), regions=self.mapped)

    def chosen(self, count: int) -> list[int]:
        """Choose examples that share as few words as can be, those with the most evidence first."""
        return varied(self.examples, count)

    def opened(self, number: int) -> Session:
        """Open an example as if the visitor had asked for it."""
        example = self.examples[number]
        given = tuple(named_in(example.prompt, self.collection.concepts))
        if number not in self.copied:
            self.copied[number] = self.attributor.copies(example.image)
        answer = replace(example.answer, copies=self.copied[number])
        return Session(
            example.image, answer, self.attributor.method, example.prompt, example.seed,
            given=given, example=number,
        )  # fmt: skip

    def with_word(self, prompt: object, concept: object, value: object) -> str:
        """Write a prompt such as "a woodcut of a cat by the sea" with another value, or without one that it names."""
        known, prompt = self.collection.concepts, words(prompt, "the prompt", self.max_prompt)
        phrase = known.get(words(concept, "the concept", 200), {}).get(
            words(value, "the word", 200)
        )
        if phrase is None:
            raise InputError("there is no such word to choose; reload the page")
        named = named_in(prompt, known)
        chosen = {c: p for c, p in named.items() if c != concept}
        chosen |= {} if named.get(concept) == phrase else {concept: phrase}
        return full_prompt(chosen, self.collection.sentence)

    @property
    def known_words(self) -> frozenset[str]:
        """Give the words of all captions that may be shown, which the model learned from, and words that name nothing."""
        hidden = self.visible.requests.hidden().numpy().tobytes()
        known = self.vocabulary.get(hidden)
        if known is None:
            captions = [caption for _, caption, _ in self.visible.described()]
            known = frozenset(words_in(captions) | LITTLE)
            self.vocabulary.clear()
            self.vocabulary[hidden] = known
        return known

    def told_words(self) -> str:
        """Give the words that a browser needs to name the others while they are typed; none where they are too many."""
        known = self.known_words if self.choices.reads == "prompt" else ()
        return " ".join(sorted(known)) if len(known) <= MOST_WORDS else ""

    def unknown(self, prompt: object) -> tuple[str, ...]:
        """Give the words of a prompt that the model never learned."""
        prompt = words(prompt, "the prompt", self.max_prompt)
        if self.choices.reads != "prompt":
            return ()
        return tuple(w for w in unknown_words(prompt, self.known_words) if len(w) >= SHORTEST)

    def known_example(self, prompt: object, seed: object, method: object) -> int | None:
        """Find the example that a prompt and a seed would draw."""
        if method not in ("", None, self.attributor.method):
            return None
        same = [n for n, e in enumerate(self.examples) if (e.prompt, e.seed) == (prompt, seed)]
        return same[0] if same else None

    def draw(
        self, prompt: object, seed: object, on_step: OnStep, on_wait: OnWait = unheard
    ) -> tuple[Image.Image, str, int]:
        """Draw a picture; give it with the prompt and the seed as they were read."""
        prompt = words(prompt, "the prompt", self.max_prompt)
        if self.choices.reads == "nothing":
            prompt = ""
        elif not prompt:
            raise InputError("describe a picture first")
        seed = whole(SEED if seed is None else seed, "the seed", 0, LAST_SEED)
        image = self.easel.draw(self.attributor.model, prompt, seed, on_step, on_wait)
        return image, prompt, seed

    def attribute(
        self, image: Image.Image, prompt: object, seed: int | None,
        own: list[OwnConcept] | None = None, method: str = "", credentials: str = "",
        on_wait: OnWait = unheard,
    ) -> Session:  # fmt: skip
        """Attribute one picture, for the visitor's own concepts, too."""
        prompt = words(prompt, "the prompt", self.max_prompt)
        method = method or self.attributor.method
        if method not in self.by_method:
            raise InputError(f"there is no method {method!r}; known: {', '.join(self.by_method)}")
        answer = self.line.compute(
            lambda seat: self.at(seat, method).attribute(image, prompt), on_wait
        )
        session = Session(
            image, answer, method, prompt, seed, credentials=credentials,
            given=tuple(named_in(prompt, self.collection.concepts)), unknown=self.unknown(prompt),
        )  # fmt: skip
        for concept in own or []:
            session = self.asked_more(session, concept, on_wait)
        return session

    def asked_more(
        self, session: Session, concept: OwnConcept, on_wait: OnWait = unheard
    ) -> Session:
        """Ask one more question, in words of the visitor's own."""

        def asked(seat: int) -> Answer:
            attributor, name = self.at(seat, session.method), OWN + concept.phrase
            return with_concept(attributor, session.image, session.answer, name, concept)

        return replace(session, answer=self.line.compute(asked, on_wait), regions=[])

    def learn(self, phrase: object, on_step: OnStep) -> OwnConcept:
        """Learn weights for a phrase."""
        if self.choices.reads != "prompt":
            raise InputError("this model reads no phrases, so that none can be learned")
        phrase = words(phrase, "the concept", 100)
        self.line.take_all_cores()
        return learn_concept(self.worker, phrase, on_step, self.own_queries)

    def seen(
        self, session: Session | None, marks: Marks | None, artist: object, own: list[OwnConcept],
        *amounts: object,
    ) -> Session:  # fmt: skip
        """Put together what a visitor looks at: their answer, or the first example, under their mix."""
        session = session or self.first()
        if session is None:
            raise InputError("make or upload a picture first")
        answer = replace(session.answer, requests=self.attributor.requests)
        names = [*self.choices.questions, *(OWN + concept.phrase for concept in own)]
        mix = as_mix(dict(zip(names, amounts, strict=False)), answer)
        of, likeness, stable = marks or (None, None, None)
        if of is not session.image:  # of the picture before
            likeness = stable = None
        artist = words(artist, "the artist", 200)
        if artist and artist not in self.visible.names("artist"):
            artist = NOBODY
        return replace(
            session, answer=answer, mix=mix, artist=artist, likeness=likeness, stability=stable
        )

    def mark(self, session: Session | None) -> Marks | None:
        """Compare a picture plainly, and trace it again under other noise."""
        session = session or self.first()
        if session is None:
            return None
        if session.example in self.marked:
            return self.marked[session.example]

        def found(seat: int) -> Marks:
            attributor = self.at(seat, session.method)
            likeness = attributor.alike(session.image) if attributor.look_alikes else None
            return session.image, likeness, stability(attributor, session.image, session.answer)

        marks = self.line.compute(found, patient=True)
        if session.example is not None:
            self.marked[session.example] = marks
        return marks

    def closer(self, seen: Session, row: int) -> str:
        """Show one training image beside the picture, with all that is known of it."""
        found = depth(self.by_method[seen.method], seen.answer, self.visible.shown(row), **seen.mix)
        return self.views.closer(seen, row, by_block(found))

    def where(self, seen: Session, row: int) -> str:
        """Draw where in the picture the evidence for a training image lies, or say that it is not known."""
        self.visible.shown(row)
        if not self.choices.maps:
            family = self.choices.model["family"]
            unknown = f"Where in the picture its evidence lies is not known for a {family}."
            return self.views.heat(row, None, unknown)
        if not seen.regions:
            found = self.line.compute(
                lambda seat: self.at(seat, seen.method).regions(seen.image, seen.answer)
            )
            seen.regions.append(found)
        return self.views.heat(row, blend(seen.image, seen.regions[0].map(row, **seen.mix)))

    def left_out(self, ticked: list[int], artist: object) -> list[int]:
        """Give the rows that are ticked, or those of an artist; none that was withheld meanwhile."""
        artist = words(artist, "the artist", 200)
        if artist not in ("", ANY):
            found = self.visible.by(artist).nonzero()[:, 0].tolist()
        else:
            found = sorted(set(ticked) & set(self.visible.rows()))
        if not found:
            raise InputError("tick some training pictures first, or choose an artist who is shown")
        return found

    def without(self, session: Session | None, rows: list[int], on_step: OnStep) -> WhatIf:
        """Draw the picture again by a model that was made to forget some training images."""
        session = session or self.first()
        if session is None:
            raise InputError("make or upload a picture first")
        if not self.choices.forgets:
            raise InputError(
                f"a {self.choices.model['network']} has no cross-attention; unlearning moves nothing else"
            )
        self.line.take_all_cores()
        return what_if(
            self.attributor.model, self.collection, session.prompt or session.answer.phrases[GENERAL],
            rows, session.answer.scores[GENERAL], session.seed, session.image, self.unlearning, on_step,
        )  # fmt: skip

    def search(self, text: object, artist: object, kind: object) -> tuple[list[int], int]:
        """Find the rows whose caption, artist or labels hold all words of a text; `kind` is of `choices.column`.

        Counted beside are all that are withheld: how many of them fit would tell what they hold.
        """
        wanted = words(text, "the search", 200).lower().split()
        artist, column = words(artist, "the artist", 200), self.choices.column
        kind = words(kind, f"the {column or 'label'}", 200)
        found = []
        for row, caption, about in self.visible.described():
            everything = " ".join([caption, *about.values()]).lower()
            fits = all(word in everything for word in wanted)
            fits = fits and artist in ("", ANY, about.get("artist"))
            if fits and kind in ("", ANY, about.get(column)):
                found.append(row)
        return found, self.visible.withheld()

    def browse(self, text: object, artist: object, kind: object, page: object) -> str:
        """Show a page of what a search finds."""
        found, hidden = self.search(text, artist, kind)
        pages = max(1, -(-len(found) // PAGE_SIZE))
        page = whole(page, "the page", 1, pages)
        some = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return self.views.browsed(some, page, pages, len(found), hidden)

    def open(self, row: int, recent: list[Session], mix: dict[str, float]) -> str:
        """Show one training image, and which of the model's pictures lean on it."""
        self.visible.shown(row)
        answers = [e.answer for e in self.examples] + [s.answer for s in recent]
        pictures = [(e.image, e.prompt) for e in self.examples] + [(s.image, s.prompt) for s in recent]  # fmt: skip
        leaning = [
            {"number": n, "score": score, "picture": as_data(pictures[n][0], 160), "prompt": pictures[n][1]}
            for n, score in leaning_on(answers, row, LEANING, **mix)
        ]  # fmt: skip
        return self.views.opened(row, leaning)

    def report(self, seen: Session) -> dict:
        """Write down a session's picture, settings and results."""
        report = make_report(
            self.by_method[seen.method], seen.image, seen.answer, prompt=seen.prompt, seed=seen.seed,
            mix=seen.mix, count=COUNT, date=datetime.now(UTC), measured=self.measured,
        )  # fmt: skip
        return self.signed(report, REPORT)

    def signed(self, document: dict, kind: str) -> dict:
        """Sign a document where the host has a key."""
        return self.signer.signed(document, kind) if self.signer else document

    @property
    def key(self) -> str:
        """Give the fingerprint of the host's key; nothing without one."""
        return self.signer.fingerprint if self.signer else ""

    def taken(self, seen: Session) -> str:
        """Offer the report, the ranking and the link."""
        report = self.report(seen)
        page = report_html(self.by_method[seen.method], report)
        return self.views.taken(
            report, page, sources_csv(self.by_method[seen.method], report), seen.link()
        )

    def as_json(self, seen: Session, count: int) -> dict:
        """Give an answer to a program."""
        answer = seen.answer
        share = portions(answer.mix(**seen.mix)).tolist() if answer.whole else None
        hidden = answer.hidden_among(count, **seen.mix)
        sources = [
            {"rank": s.rank, "score": round(s.score, 4), "share": share and round(share[s.index], 4)} | self.row_json(s.index)
            for s in seen.shown(count)
        ]  # fmt: skip
        return {
            "method": seen.method, "phrases": answer.phrases, "mix": seen.mix,
            "p_values": answer.p_values, "level": LEVEL, "sources": sources, "withheld": hidden,
            "stands_out": bool(answer.p_values) and answer.stands_out(LEVEL),
            "artists": [vars(each) for each in self.shares(seen)] if answer.whole else None,
            "searched": answer.searched, "model": self.choices.model,
            "copies": self.copies_json(seen), "verdict": self.verdict_json(seen),
            "drawn": {"known": seen.seed is not None, "p_value": answer.drawn},
        }  # fmt: skip

    def verdict_json(self, seen: Session) -> dict:
        """Give the verdict to a program, in the page's words."""
        said = seen.verdict
        return {
            "origin": said.origin, "evidence": said.evidence, "sentence": said.sentence,
            "sure": " ".join(said.sure),
        }  # fmt: skip

    def copies_json(self, seen: Session) -> list[dict] | None:
        """Give the training images that a picture is or nearly copies; None where nobody looked."""
        if seen.answer.copies is None:
            return None
        return [vars(copy) | self.row_json(copy.row) for copy in seen.answer.originals()]

    def shares(self, seen: Session) -> list[Share]:
        """Give the artists' shares; none where the collection names no artist."""
        return seen.answer.artists(**seen.mix) if self.visible.has("artist") else []

    def row_json(self, row: int) -> dict:
        """Give what is known of a training image to a program."""
        visible = self.visible
        about = {"row": row, "file": visible.file(row), "caption": visible.caption(row)}
        return about | visible.labels(row)

    def spoken(self, seen: Session, row: int) -> dict:
        """Give what each block of the network adds to a training image's score, from little noise to much."""
        about = self.row_json(row)
        blocks = by_block(depth(self.by_method[seen.method], seen.answer, row, **seen.mix))
        parts = {
            name: [round(value, 4) for value in part.tolist()] for name, part in blocks.items()
        }
        return about | {"blocks": parts}
