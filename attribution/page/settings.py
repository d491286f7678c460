"""Read the page's settings from environment variables.

In: variables named ATTRIBUTION_*. Out: checked `Settings`. It knows neither the page nor what the names lead to.
"""

import os
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from attribution.errors import InputError
from attribution.page.inputs import MAX_PROMPT
from attribution.page.language import ENGLISH, languages

PREFIX = "ATTRIBUTION_"
SEARCH = r"^(auto|exact|index|ray://\S+)$"
DEVICE = r"^(cpu|cuda|mps|xpu)(:\d{1,2})?$"  # to ask torch would take seconds
TONGUES = " or ".join(languages())
LANGUAGE = f"^({'|'.join(languages())})$"


def split(text: object) -> object:
    """Read a list with commas."""
    return tuple(part.strip() for part in text.split(",")) if isinstance(text, str) else text


def up_to(most: int) -> object:
    """Describe a whole number; `most` is the highest that makes sense."""
    return Field(ge=1, le=most, description=f"a whole number from 1 to {most}")


Place = Annotated[str, Field(min_length=1, description="a folder or a Hub id")]
Other = Annotated[str | None, Field(min_length=1, description="a folder or a Hub id")]
Places = Annotated[
    tuple[Place, ...],
    NoDecode,
    BeforeValidator(split),
    Field(description="folders or Hub ids, with one comma between two"),
]
Switch = Annotated[bool, BeforeValidator(lambda text: text or False), Field(description="1 or 0")]


class Settings(BaseSettings):
    """What a page is made of, and what it allows; each field is the variable of its name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    model: Other = None  # where it is not what the first cache was made from, or what is shipped
    cache: Places = ("assets/cache",)  # one for each method
    collection: Other = None  # likewise
    opt_out: str = ""  # a list of who is not to be shown, else opt_out.json in the collection
    search: Annotated[
        str, Field(pattern=SEARCH, description="auto, exact, index or ray://ADDRESS")
    ] = "auto"  # who answers; auto: the index where the cache has one
    examples: Annotated[str | None, Field(min_length=1, description="a folder")] = (
        None  # answers that are ready when the page opens, else the cache's own
    )
    key: str = ""  # a folder for the key that reports are signed with, made on first use
    contact: Annotated[str, Field(max_length=200, description="how to reach you")] = ""
    about: Annotated[str, Field(max_length=300, description="a sentence on the model")] = ""
    device: Annotated[str, Field(pattern=DEVICE, description="cpu, cuda or cuda:1")] = "cpu"
    max_prompt: Annotated[int, up_to(MAX_PROMPT)] = MAX_PROMPT  # characters
    max_upload_mb: Annotated[int, up_to(1000)] = 20
    queue_size: Annotated[int, up_to(10_000)] = 40  # people who may wait; others are to come back
    time_limit: Annotated[int, up_to(86_400)] = 120  # seconds for one job
    language: Annotated[str, Field(pattern=LANGUAGE, description=TONGUES)] = ENGLISH  # of the page
    mcp: Switch = False  # offer the named endpoints as tools of the Model Context Protocol
    follow_links: Switch = False  # to pictures outside the collection's folder

    @field_validator("*", mode="before")
    @classmethod
    def strip(cls, value: object) -> object:
        """Leave out spaces around a text."""
        return value.strip() if isinstance(value, str) else value

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the variables that are set; a misspelt one is refused, as it would change nothing."""
        known = {variable(name) for name in cls.model_fields}
        given = {name for name in os.environ if name.upper().startswith(PREFIX)}
        unknown = {name for name in given if name.upper() not in known}
        if unknown:
            names = ", ".join(map(variable, cls.model_fields))
            raise InputError(f"there is no setting {min(unknown)}; known: {names}")
        try:
            return cls()
        except ValidationError as error:
            raise InputError(sentence(error)) from error


def sentence(error: ValidationError) -> str:
    """Say which variable is wrong, and what to give instead."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    came = repr(str(first["input"])[:40]) if first["input"] != "" else "empty"
    return f"{variable(name)} is {came}; give {Settings.model_fields[name].description}"


def variable(name: str) -> str:
    """Name a setting's environment variable."""
    return PREFIX + name.upper()
