"""Fill the page's templates, which escape every text, and write pictures and files as data, so that no file is served.

In: the templates beside this file, and what fills them. Out: HTML, and addresses that hold what they lead to. It knows no session.
"""

import base64
import io
import json

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from attribution.page.language import marked, number, say, told

THUMBNAIL = 160  # pixels, at most
SHOWN = 640  # pixels of the longest side of a picture that is looked at
KINDS = {"html": "text/html", "json": "application/json", "csv": "text/csv"}

TEMPLATES = Environment(
    loader=PackageLoader("attribution.page"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
TEMPLATES.globals["_"] = marked  # "_('...')" says a text, with its HTML
TEMPLATES.filters |= {"said": say, "told": told, "number": number}


def render(name: str, /, **values: object) -> str:
    """Fill a template."""
    return TEMPLATES.get_template(f"{name}.html").render(**values)


def as_data(image: Image.Image, side: int = SHOWN) -> str:
    """Write a picture into an address of its own, at most `side` pixels long."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    memory = io.BytesIO()
    small.save(memory, "WEBP", quality=90, method=2)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode()


def as_json(document: dict) -> str:
    """Write what is taken along as JSON."""
    return json.dumps(document, indent=1)


def as_links(files: dict[str, str]) -> list[tuple[str, str, int]]:
    """Write files into addresses of their own; with each name and size."""
    return [
        (name, f"data:{KINDS[name.rsplit('.')[-1]]};base64,{base64.b64encode(text.encode()).decode()}", len(text))
        for name, text in files.items()
    ]  # fmt: skip
