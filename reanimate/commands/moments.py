"""Times as people give them to commands."""

from datetime import UTC, datetime

from reanimate.errors import InputInvalid

__all__ = ["moment"]


def moment(text: str | None, option: str = "--at") -> datetime | None:
    """Read an option's ISO 8601 time, UTC unless it says; None when it was not given.

    Raises:
        InputInvalid: it is no time.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputInvalid(f"{option} {text!r} is not a time", hint="for example 2026-11-23T01:30:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
