"""Refuse JSON that does not hold what it should.

A shape is written as the value that it describes: `{"name": int, "note?": str}` holds these fields and no others, one
that ends in `?` may be missing, `{str: shape}` holds any names, `[shape]` is a list, and at the leaves stand types.
`float` takes whole numbers, too; every number is finite and below MOST_NUMBER; text can be written as UTF-8.
`object` takes anything: it is for what nobody reads.
"""

from typing import Any, get_args

MOST_NUMBER = 1e12


def check_shape(value: Any, shape: Any, place: str = "it") -> None:
    """Raise ValueError, which names the place, for a value of another shape."""
    if isinstance(shape, dict):
        _check_fields(value, shape, place)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{place} should be a list")
        for each in value:
            check_shape(each, shape[0], place)
    elif shape is not object and not _is_a(value, shape):
        raise ValueError(f"{place} is not what it should be")


def _check_fields(value: Any, shape: dict, place: str) -> None:
    free, fields = str in shape, {str(name).removesuffix("?"): s for name, s in shape.items()}
    needed = {name for name in fields if name in shape}
    if not isinstance(value, dict) or not (free or needed <= value.keys() <= fields.keys()):
        raise ValueError(f"{place} should hold {'names' if free else ', '.join(fields)}")
    for key, each in value.items():
        name = "".join(letter for letter in key[:40] if letter.isprintable())
        if not _is_a(key, str):
            raise ValueError(f"{place} has a name that is no text")
        check_shape(each, shape[str] if free else fields[key], name)


def _is_a(value: Any, kind: Any) -> bool:
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int | float):
        known = type(value) in kinds or float in kinds
        return known and abs(value) < MOST_NUMBER  # NaN is not
    if isinstance(value, str):
        return str in kinds and is_text(value)
    return isinstance(value, kind)


def is_text(value: str) -> bool:
    """Tell whether a text can be written: half of a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
