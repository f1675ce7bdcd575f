"""The base of every table of the settings file, and the kinds of value and of name that many of them have."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Name", "Port", "Seconds", "Section", "Share", "Zone", "is_glob"]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except Exception as error:
        raise ValueError(f"{name!r} is not a time zone of this system") from error
    return name


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Zone = Annotated[str, AfterValidator(_known_zone)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,79}$")]


def is_glob(name: str) -> bool:
    """Say whether a name has wildcards: `*`, `?` or `[…]`."""
    return any(character in name for character in "*?[")


class Section(BaseModel):
    """A table of the settings file; an unknown key is an error, so that a typo is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
