"""Know the words that a model learned from: press one into a prompt, and name those that it never saw.

In: the captions that may be shown, which may become fewer at any time, and a prompt. Out: words. It asks no model.
"""

from dataclasses import dataclass, field

from attribution.concepts import SPACED_WORD, full_prompt, named_in
from attribution.errors import InputError
from attribution.looks.phrases import unknown_words, words_in
from attribution.page.inputs import words
from attribution.pictures.collection import Collection
from attribution.pictures.optout import Visible

LITTLE = frozenset(
    ("and", "the", "with", "for", "from", "into", "over", "under", "near", "its", "that")
)  # name nothing
MOST_WORDS = 20_000  # that are sent with the page
SHORTEST = 3  # letters of a word that may name something


@dataclass(frozen=True)
class Vocabulary:
    """The words of all captions that may be shown."""

    visible: Visible
    reads: str  # by the model: prompt, label or nothing
    by_hidden: dict[bytes, frozenset[str]] = field(default_factory=dict)  # by who is withheld

    @property
    def known(self) -> frozenset[str]:
        """Give the words of all captions that may be shown, which the model learned from, and words that name nothing."""
        hidden = self.visible.requests.hidden().numpy().tobytes()
        known = self.by_hidden.get(hidden)
        if known is None:
            captions = [caption for _, caption, _ in self.visible.described()]
            known = frozenset(words_in(captions) | LITTLE)
            self.by_hidden.clear()
            self.by_hidden[hidden] = known
        return known

    def told(self) -> str:
        """Give the words that a browser needs to name the others while they are typed; none where they are too many."""
        known = self.known if self.reads == "prompt" else ()
        return " ".join(sorted(known)) if len(known) <= MOST_WORDS else ""

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Give the words of a prompt that the model never learned, as they were typed."""
        if self.reads != "prompt":
            return ()
        typed = {word.lower(): word for word in SPACED_WORD.findall(prompt)}
        found = unknown_words(prompt, self.known)
        return tuple(typed.get(word, word) for word in found if len(word) >= SHORTEST)


def with_word(
    collection: Collection, prompt: object, concept: object, value: object, longest: int
) -> str:
    """Write a prompt such as "a woodcut of a cat by the sea" with another value, or without one that it names."""
    known, prompt = collection.concepts, words(prompt, "the prompt", longest)
    phrase = known.get(words(concept, "the concept", 200), {}).get(words(value, "the word", 200))
    if phrase is None:
        raise InputError("there is no such word to choose; reload the page")
    named = named_in(prompt, known)
    chosen = {c: p for c, p in named.items() if c != concept}
    chosen |= {} if named.get(concept) == phrase else {concept: phrase}
    return full_prompt(chosen, collection.sentence)
