"""Name a picture's width and height: 512 for a square, 768x512 for others.

In: what was typed or written down. Out: a `Size`, or the reverse. It knows no picture.
"""

import re

from attribution.errors import InputError

Size = tuple[int, int]  # width, height, in pixels
WRITTEN = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?", re.ASCII)


def size_of(written: str | int) -> Size:
    """Read 512 or 768x512."""
    found = WRITTEN.fullmatch(str(written))
    if not found or "0" in (found[1], found[2]):
        raise InputError(
            f"resolution is {written!s:.20}; give the pictures' side in pixels (512), or their width and height (768x512)"
        )
    return int(found[1]), int(found[2] or found[1])


def written(size: Size) -> str | int:
    """Write a size as it is read; a square's is a number."""
    width, height = size
    return width if width == height else f"{width}x{height}"
