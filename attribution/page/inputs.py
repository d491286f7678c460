"""Read what a browser or a program sent, which may be anything: a number, a text, a row."""

from attribution.errors import InputError

MAX_PROMPT = 1000  # characters; a model reads no more


def whole(value: object, what: str, least: int, most: int) -> int:
    """Read a whole number."""
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} is no whole number from {least} to {most}") from error
    if not least <= number <= most:
        raise InputError(f"{what} is {number}; give a whole number from {least} to {most}")
    return number


def words(value: object, what: str, most: int) -> str:
    """Read a text; nothing is an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{what} is a {type(value).__name__}; give a text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{what} holds halves of characters; type it again")
    if len(value) > most:
        raise InputError(f"{what} has {len(value)} characters; the limit is {most}")
    return value.strip()


def rows(value: object, known: int, most: int = 500) -> list[int]:
    """Read a list of training images."""
    if not isinstance(value, list) or len(value) > most:
        raise InputError(f"the training pictures are no list of at most {most} numbers")
    return [whole(row, "a training picture", 0, known - 1) for row in value]
