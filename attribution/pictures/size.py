"""Name a picture's width and height: 512 for a square, 768x512 for others; or several, 512,768x512.

In: what was typed or written down. Out: a `Size`, or the reverse. It knows no picture.
"""

import re
from fractions import Fraction

from attribution.errors import InputError

Size = tuple[int, int]  # width, height, in pixels
MOST = 64  # sizes of one model
WRITTEN = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?", re.ASCII)


def size_of(written: str | int) -> Size:
    """Read 512 or 768x512."""
    found = WRITTEN.fullmatch(str(written))
    if not found or "0" in (found[1], found[2]):
        raise InputError(
            f"resolution is {written!r:.20}; give the pictures' side in pixels (512), or their width and height (768x512)"
        )
    return int(found[1]), int(found[2] or found[1])


def sizes_of(written: str | int) -> tuple[Size, ...]:
    """Read one size or several, 512,640x448: the first is that of drawings, and each picture is seen at the nearest."""
    found = tuple(size_of(each) for each in str(written).split(","))
    if len({Fraction(*size) for size in found}) < len(found):
        raise InputError(
            f"resolution is {written!s:.60} and names two sizes of one shape; name one of them"
        )
    if len(found) > MOST:
        raise InputError(f"resolution names {len(found)} sizes; at most {MOST} are supported")
    return found


def written(*sizes: Size) -> str | int:
    """Write sizes as they are read; a square's alone is a number."""
    if len(sizes) > 1:
        return ",".join(str(written(size)) for size in sizes)
    width, height = sizes[0]
    return width if width == height else f"{width}x{height}"


def cut_off(picture: Size, seen: Size) -> float:
    """Give the share of a picture's area that lies outside the most of its middle that has another size's shape."""
    (width, height), (seen_width, seen_height) = picture, seen
    part = min(width / seen_width, height / seen_height)
    return 1 - seen_width * seen_height * part**2 / (width * height)
