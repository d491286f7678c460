"""Answer what visitors ask: draw a picture, attribute it, learn a concept, ask again under another mix.

In: an `Attributor` and what a visitor sent, which is checked here. Out: sessions. Modules that begin with a verb do more
with them (looking, leaving, browsing, taking). One desk serves all visitors and keeps nothing of any of them. It knows no Gradio.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from PIL import Image

from attribution.answer.answer import Answer
from attribution.answer.copies import Copy
from attribution.attributor import Attributor
from attribution.concepts import named_in
from attribution.errors import InputError
from attribution.looks.examples import Example, varied
from attribution.looks.own import OwnConcept, learn_concept, with_concept
from attribution.looks.regions import Regions
from attribution.looks.stability import stability
from attribution.looks.unlearning import UnlearnConfig
from attribution.page.choices import OWN, Choices
from attribution.page.inputs import MAX_PROMPT, whole, words
from attribution.page.line import Easel, Line, OnWait, unheard
from attribution.page.session import LAST_SEED, SEED, Marks, Session, as_mix
from attribution.page.views import Views
from attribution.page.vocabulary import Vocabulary
from attribution.pictures.collection import Collection
from attribution.pictures.optout import Visible
from attribution.progress import OnStep
from attribution.report.credentials import Credentials
from attribution.report.signature import Signer
from attribution.sentence import Sentence

ANY = "(any)"
NOBODY = Sentence("nobody who is shown")  # stands for a name that is withheld or unknown
NO_SEAT = -1  # of long jobs, which are in nobody's way
FORGETTING = 40  # steps of what-if, at most


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
    def vocabulary(self) -> Vocabulary:
        """Know the words that the model learned from."""
        return Vocabulary(self.visible, self.choices.reads)

    @cached_property
    def views(self) -> Views:
        """Write HTML for the collection."""
        return Views(self.attributor, self.choices)

    def worker(self, method: str) -> Attributor:
        """Give long jobs a model of their own, so that they block nobody."""
        return self.at(NO_SEAT, method)

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
        own: list[OwnConcept] | None = None, method: str = "", credentials: Credentials | None = None,
        on_wait: OnWait = unheard,
    ) -> Session:  # fmt: skip
        """Attribute one picture, for the visitor's own concepts, too."""
        prompt = words(prompt, "the prompt", self.max_prompt)
        method = method or self.attributor.method
        if method not in self.by_method:
            raise no_method(method, self.by_method)
        answer = self.line.compute(
            lambda seat: self.at(seat, method).attribute(image, prompt), on_wait
        )
        session = Session(
            image, answer, method, prompt, seed, credentials=credentials,
            given=tuple(named_in(prompt, self.collection.concepts)), unknown=self.vocabulary.unknown(prompt),
        )  # fmt: skip
        return self.joined(session, own or [], on_wait)

    def unasked(self, session: Session, own: list[OwnConcept]) -> list[OwnConcept]:
        """Give those of a visitor's concepts that a picture could be asked about, and was not: weights are one method's."""
        known, method = session.answer.scores, session.method
        return [each for each in own if OWN + each.phrase not in known and each.method == method]

    def joined(self, session: Session, own: list[OwnConcept], on_wait: OnWait = unheard) -> Session:
        """Ask a picture about a visitor's own concepts, too."""
        for concept in self.unasked(session, own):
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

    def learn(self, phrase: object, on_step: OnStep, method: str = "") -> OwnConcept:
        """Learn weights for a phrase, for answers by a method."""
        method = method or self.attributor.method
        if method not in self.by_method:
            raise no_method(method, self.by_method)
        if self.choices.reads != "prompt":
            raise InputError("this model reads no phrases, so that none can be learned")
        phrase = words(phrase, "the concept", 100)
        self.line.take_all_cores()
        return learn_concept(self.worker(method), phrase, on_step, self.own_queries)

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

    def signed(self, document: dict, kind: str) -> dict:
        """Sign a document where the host has a key."""
        return self.signer.signed(document, kind) if self.signer else document

    @property
    def key(self) -> str:
        """Give the fingerprint of the host's key; nothing without one."""
        return self.signer.fingerprint if self.signer else ""


def no_method(came: object, known: Iterable[str]) -> InputError:
    """Say that there is no such method."""
    told = "there is no method {came}; known: {known}"
    return InputError(Sentence(told, came=repr(came), known=", ".join(known)))
