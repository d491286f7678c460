"""Keep what is shipped from being the implied target of a step that makes something else.

The options' defaults name the shipped model, collection and cache. Who changes any setting and forgets where the
result belongs would change the shipped one. In: a step and what was given. It reads no file.
"""

import os
from dataclasses import fields

from attribution.errors import InputError

TARGETS = ("output_dir", "output_file", "cache_dir")
HARMLESS = (
    "device",
    "dry_run",
    "batch_size",
    "timesteps_at_once",
    "gradient_checkpointing",
    "compiled",
    "work_dir",
    "follow_links",
    *TARGETS,
)
READING = ("demo", "evaluate", "verify")  # they write into none of these


def refuse_implied(step: str, config: type, given: dict) -> None:
    """Refuse to write where the shipped files are what was not made as they were, unless that was asked for."""
    defaults = {field.name: field.default for field in fields(config)}
    other = [n for n in given if n not in HARMLESS and _differs(given[n], defaults[n])]
    missing = [name for name in TARGETS if defaults.get(name) and name not in given]
    if other and missing and step not in READING:
        raise InputError(
            f"--{other[0]} is {given[other[0]]}, and {defaults[missing[0]]} belongs to what is shipped; "
            f"say with --{missing[0]} where yours belongs"
        )


def _differs(value: str | float, default: str | float) -> bool:
    if isinstance(value, str):  # a folder by another name is the same
        return os.path.realpath(value) != os.path.realpath(str(default))
    return value != default
