"""Read the page's settings from environment variables.

In: variables named ATTRIBUTION_*. Out: checked `Settings`. It knows neither the page nor what the names lead to.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from attribution.errors import InputError
from attribution.models.diffusion import MAX_PROMPT

PREFIX = "ATTRIBUTION_"
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class Settings:
    """What a page is made of, and what it allows; each field is the variable of its name."""

    model: str = "assets/model"  # a folder or a Hub id, as the next two
    cache: tuple[str, ...] = ("assets/cache",)  # several with commas: one for each method
    collection: str = "assets/collection"
    opt_out: str = ""  # a list of who is not to be shown, else opt_out.json in the collection
    examples: str = "assets/examples"  # answers that are ready when the page opens
    device: str = "cpu"
    max_prompt: int = MAX_PROMPT  # characters
    max_upload_mb: int = 20
    queue_size: int = 40  # people who may wait; others are asked to come back
    time_limit: int = 120  # seconds for one job
    mcp: bool = False  # offer the named endpoints as tools of the Model Context Protocol

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(
                    f"{variable(name)} is {value}; give a whole number from 1 to {most}"
                )
        for name in ("model", "collection", "examples", "device"):
            if not getattr(self, name):
                raise InputError(f"{variable(name)} is empty; give a value or leave it out")
        if not all(self.cache):
            raise InputError(
                f"{variable('cache')} names nothing between commas; give a folder or a Hub id"
            )
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise InputError(
                f"{variable('device')} is {self.device!r}; give cpu, cuda or cuda:1"
            ) from error

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables that are set; a misspelt one is refused, as it would change nothing."""
        kinds = {field.name: type(field.default) for field in fields(cls)}
        given = {name: text for name, text in environment.items() if name.startswith(PREFIX)}
        unknown = set(given) - {variable(name) for name in kinds}
        if unknown:
            raise InputError(
                f"there is no setting {min(unknown)}; known: {', '.join(map(variable, kinds))}"
            )
        return cls(
            **{
                name: parsed(variable(name), given[variable(name)].strip(), kind)
                for name, kind in kinds.items()
                if variable(name) in given
            }
        )


LIMITS = {  # the highest value that makes sense
    "max_prompt": MAX_PROMPT,
    "max_upload_mb": 1000,
    "queue_size": 10_000,
    "time_limit": 86_400,
}


def variable(name: str) -> str:
    """Name a setting's environment variable."""
    return PREFIX + name.upper()


def parsed(name: str, text: str, kind: type) -> str | int | bool | tuple[str, ...]:
    """Read a variable's text as what its default is."""
    if kind is tuple:
        return tuple(part.strip() for part in text.split(","))
    if kind is bool:
        if text.lower() not in YES + NO:
            raise InputError(f"{name} is {text[:40]!r}; give 1 or 0")
        return text.lower() in YES
    if kind is int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise InputError(f"{name} is {text[:40]!r}; give a whole number above zero")
        return int(text)
    return text
