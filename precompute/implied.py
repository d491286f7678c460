"""Keep what is shipped from being the implied target of a step that makes something else.

The options' defaults name the shipped model, collection and cache. Who names another model or collection and forgets
where its cache belongs would change the shipped one. In: a step and what was given. It reads no file.
"""

import os
from dataclasses import fields

from attribution.errors import InputError

# What decides whether a step makes something else than what is shipped ...
DECISIVE = {
    "collection": ("copies", "seed"),
    "train": ("train_data_dir", "resolution", "autoencoder_minutes", "denoiser_minutes", "seed"),
}
SOURCES = ("pretrained_model_name_or_path", "train_data_dir")  # ... in every other step
TARGETS = ("output_dir", "output_file", "cache_dir")
READING = ("evaluate", "verify")  # they write into none of these


def refuse_implied(step: str, config: type, given: dict) -> None:
    """Refuse to write where the shipped files are for what is not shipped, unless that was asked for."""
    defaults = {field.name: field.default for field in fields(config)}
    other = [
        name
        for name in DECISIVE.get(step, SOURCES)
        if name in given and _differs(given[name], defaults[name])
    ]
    missing = [name for name in TARGETS if name in defaults and name not in given]
    if other and missing and step not in READING:
        raise InputError(
            f"--{other[0]} is {given[other[0]]}, and {defaults[missing[0]]} belongs to what is shipped; "
            f"say with --{missing[0]} where yours belongs"
        )


def _differs(value: str | float, default: str | float) -> bool:
    if isinstance(value, str):  # a folder by another name is the same
        return os.path.realpath(value) != os.path.realpath(str(default))
    return value != default
