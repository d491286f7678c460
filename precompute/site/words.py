"""Read the texts of a static demo, in one file for each language.

In: nothing, or a file with the same keys as `words.json`. Out: texts by their names. A text that lacks one of the names in
braces that ours has, or has another, is refused: it would be shown with a hole.
"""

from importlib.resources import files
from pathlib import Path
from string import Formatter

from attribution.errors import InputError
from attribution.files import parse_json, read_json

OURS = "words.json"


def read_words(path: str) -> dict[str, str]:
    """Read our own texts, or a translation of them."""
    ours = parse_json((files("precompute.site") / "page" / OURS).read_text())
    if not path:
        return ours
    advice = "translate a copy of precompute/site/page/words.json"
    theirs = read_json(Path(path), advice, dict.fromkeys(ours, str))
    for name, text in ours.items():
        if holes(theirs[name], path) != holes(text, OURS):
            raise InputError(
                f"{name} in {path} must hold the same names in braces as {text!r}; {advice}"
            )
    return theirs


def holes(text: str, path: str) -> set[str]:
    """Name what is to be filled into a text."""
    try:
        return {name for _, name, *_ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise InputError(f"{text[:80]!r} in {path} has a brace too many or too few") from error
