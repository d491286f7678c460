"""An English sentence that remembers its pattern and what fills it, so that a page can say it in another language.

The library writes English, and knows no other language: a `Sentence` is that text, wherever a text is wanted.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any


class Sentence(str):
    """A text such as "1 of 400 pictures" that was made of the pattern "{n} of {all} pictures".

    Without anything that fills it, it is its own pattern, whatever it holds.
    """

    pattern: str
    values: dict[str, Any]

    def __new__(cls, pattern: str, /, **values: object) -> "Sentence":
        """Fill the pattern."""
        text = super().__new__(cls, pattern.format(**values) if values else pattern)
        text.pattern, text.values = pattern, values
        return text

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """Say how a copy is made."""
        return (self.pattern,), self.values


def in_a_row(names: Iterable[str], pattern: str = "{some} and {name}") -> Sentence:
    """Name several in a row, of which there is one at least; those that are sentences, too, are said in any language."""
    first, *others = names
    return reduce(
        lambda some, name: Sentence(pattern, some=some, name=name),
        others,
        first if isinstance(first, Sentence) else Sentence("{name}", name=first),
    )


def together(sentences: Iterable[str]) -> Sentence:
    """Say one sentence after another; nothing where there is none."""
    several = list(sentences)
    if not several:
        return Sentence("")
    first = Sentence("{first}", first=several[0])
    return reduce(
        lambda some, other: Sentence("{some} {other}", some=some, other=other), several[1:], first
    )
