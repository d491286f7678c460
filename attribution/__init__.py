"""Trace a generated picture back to the training images that it came from."""

from attribution.attribution import Attribution, Source
from attribution.attributor import Attributor
from attribution.collection import Collection, load_collection, open_image
from attribution.errors import InputError
from attribution.model import DiffusionModel
from attribution.shares import Share

__all__ = [
    "Attribution",
    "Attributor",
    "Collection",
    "DiffusionModel",
    "InputError",
    "Share",
    "Source",
    "load_collection",
    "open_image",
]
