"""Read what a browser or a program sent, which may be anything: a number, a text, a row."""

from attribution.errors import InputError
from attribution.sentence import Sentence

MAX_PROMPT = 1000  # characters; a model reads no more


def whole(value: object, what: str, least: int, most: int) -> int:
    """Read a whole number; `what` names it in a sentence."""
    about = {"what": Sentence(what), "least": least, "most": most}
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        told = Sentence("{what} is no whole number from {least} to {most}", **about)
        raise InputError(told) from error
    if not least <= number <= most:
        told = "{what} is {number}; give a whole number from {least} to {most}"
        raise InputError(Sentence(told, **about, number=number))
    return number


def words(value: object, what: str, most: int) -> str:
    """Read a text; nothing is an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InputError(
            Sentence("{what} is a {kind}; give a text", what=Sentence(what), kind=kind)
        )
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        told = "{what} holds halves of characters; type it again"
        raise InputError(Sentence(told, what=Sentence(what)))
    if len(value) > most:
        told = "{what} has {count} characters; the limit is {most}"
        raise InputError(Sentence(told, what=Sentence(what), count=len(value), most=most))
    return value.strip()


def rows(value: object, known: int, most: int = 500) -> list[int]:
    """Read a list of training images."""
    if not isinstance(value, list) or len(value) > most:
        told = "the training pictures are no list of at most {most} numbers"
        raise InputError(Sentence(told, most=most))
    return [whole(row, "a training picture", 0, known - 1) for row in value]
