"""Trace a generated picture back to the training images that it came from."""

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
