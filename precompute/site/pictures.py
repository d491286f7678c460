"""Write small pictures for a web page. In: a picture. Out: a WebP file, without loss where that is the smaller one."""

import io
from pathlib import Path

from PIL import Image

QUALITY = 92  # of a photograph, whose file would be several times as large without loss


def write_picture(path: Path, image: Image.Image, side: int) -> None:
    """Write a picture at most `side` pixels long."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    path.write_bytes(min(_encoded(small, lossless=True), _encoded(small, quality=QUALITY), key=len))


def _encoded(image: Image.Image, **how: int | bool) -> bytes:
    memory = io.BytesIO()
    image.save(memory, "WEBP", method=2, **how)
    return memory.getvalue()
