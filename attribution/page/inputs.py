"""Read what a browser or a program sent, which may be anything: a number, a text, a row, an uploaded picture."""

from pathlib import Path

from PIL import Image

from attribution.collection import open_image
from attribution.errors import InputError

LONGEST_SIDE = 1024  # pixels of an upload that are kept


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


def words(value: object, what: str, most: int = 1000) -> str:
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


def upload_path(upload: object) -> Path:
    """Read where Gradio has put an upload."""
    path = upload.get("path") if isinstance(upload, dict) else None
    if not isinstance(path, str) or not path:
        raise InputError("choose a picture first")
    return Path(path)


def read_upload(upload: object) -> tuple[Image.Image, bytes]:
    """Decode an upload, small enough to show, and give its bytes, too; one that cannot be decoded is deleted."""
    path = upload_path(upload)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("the upload is no longer here; choose the picture again") from error
    try:
        image = open_image(data)
    except InputError:
        path.unlink(missing_ok=True)
        raise
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image, data
