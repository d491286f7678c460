"""Trace a generated picture back to the training images that it came from.

What is named here is imported when it is asked for (PEP 562): torch and diffusers take seconds, an error none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attribution.quiet import drop_import_warnings

if TYPE_CHECKING:
    from attribution.answer.answer import Answer, Source
    from attribution.answer.shares import Share
    from attribution.attributor import Attributor
    from attribution.errors import InputError
    from attribution.models.diffusion import DiffusionModel
    from attribution.pictures.collection import Collection, load_collection, open_image

__all__ = [
    "Answer",
    "Attributor",
    "Collection",
    "DiffusionModel",
    "InputError",
    "Share",
    "Source",
    "load_collection",
    "open_image",
]
PLACES = {
    "Answer": "answer.answer",
    "Attributor": "attributor",
    "Collection": "pictures.collection",
    "DiffusionModel": "models.diffusion",
    "InputError": "errors",
    "Share": "answer.shares",
    "Source": "answer.answer",
    "load_collection": "pictures.collection",
    "open_image": "pictures.collection",
}  # name -> the module that it comes from

drop_import_warnings()


def __getattr__(name: str) -> Any:
    """Import what is named in `PLACES`."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    """List what can be asked for."""
    return sorted({*globals(), *__all__})
