"""Say the page's texts in the host's language: one for all visitors, chosen when the page starts.

In: English texts, which are their own keys; patterns such as "{n} of {all}" and what fills them. Out: the same by a
catalogue, `texts/LANGUAGE.json`, or in English where it has none. The library's sentences (`Sentence`) are said by their patterns;
what programs and reports are told stays English. It knows neither Gradio nor what is said.
"""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from attribution.sentence import Sentence

FOLDER = Path(__file__).parent / "texts"
ENGLISH = "en"
WRITTEN = "1,234.5"  # a number; its text in a catalogue says how numbers are written


def languages() -> list[str]:
    """Name the languages that there are."""
    return [ENGLISH, *sorted(path.stem for path in FOLDER.glob("*.json"))]


class Language:
    """A catalogue of texts."""

    def __init__(self, name: str = ENGLISH) -> None:
        self.name = name
        path = FOLDER / f"{name}.json"
        self.texts: dict[str, str] = {} if name == ENGLISH else json.loads(path.read_text())
        written = self.texts.get(WRITTEN, WRITTEN)
        self.marks = str.maketrans({",": written[1], ".": written[5]})

    def say(self, text: str, /, **values: object) -> str:
        """Say a text of the page, or a sentence of the library."""
        if isinstance(text, Sentence):
            text, values = text.pattern, text.values
        said = self.texts.get(text, text)
        return said.format(**self.shown(values)) if values else said

    def marked(self, text: str, /, **values: object) -> Markup:
        """Say a text of a template, which may hold HTML; what fills it may not."""
        said = Markup(self.texts.get(text, text))  # noqa: S704 - templates and catalogues are ours
        return said.format(**self.shown(values)) if values else said

    def shown(self, values: dict[str, object]) -> dict[str, object]:
        """Say what fills a text: sentences, and numbers as they are written here."""
        return {name: self.one(value) for name, value in values.items()}

    def one(self, value: object) -> object:
        """Say one value; a text that is no sentence is somebody's, and stays."""
        if isinstance(value, Sentence):
            return self.say(value)
        return Figure(value, self) if isinstance(value, int | float) else value

    def number(self, value: int | float, how: str) -> str:
        """Write a number."""
        return format(value, how).translate(self.marks)


class Figure:
    """A number that is written as a language does."""

    def __init__(self, value: int | float, language: Language) -> None:
        self.value, self.language = value, language

    def __format__(self, how: str) -> str:
        """Write it."""
        return self.language.number(self.value, how)


SPOKEN = [Language()]


def speak(name: str) -> None:
    """Choose the language of this process's page."""
    SPOKEN[0] = Language(name)


def spoken() -> Language:
    """Give the language of this process's page."""
    return SPOKEN[0]


def say(text: str, /, **values: Any) -> str:
    """Say a text in the page's language."""
    return spoken().say(text, **values)


def marked(text: str, /, **values: Any) -> Markup:
    """Say a text of a template in the page's language."""
    return spoken().marked(text, **values)


def told(text: str) -> str:
    """Say a sentence in the page's language; any other text is somebody's, and stays."""
    return say(text) if isinstance(text, Sentence) else text


def number(value: int | float, how: str) -> str:
    """Write a number in the page's language."""
    return spoken().number(value, how)
