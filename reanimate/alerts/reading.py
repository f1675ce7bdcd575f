"""Reading what a sender wrote: JSON, times and label maps, with an error that names the field. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from reanimate.errors import InputInvalid

__all__ = ["WrongContentType", "as_moment", "as_object", "as_text", "as_texts", "read_json"]

_NO_TIME = 1  # senders in Go write the year 1 for "none"


class WrongContentType(InputInvalid):
    """The body is of a type that this source does not take; answered with 415."""


def read_json(body: bytes) -> Any:
    """Return the JSON document in `body`.

    Raises:
        InputInvalid: it is not JSON in UTF-8.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputInvalid(f"the body is not JSON: {error}") from error


def as_object(value: Any, name: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object.

    Raises:
        InputInvalid: it is not.
    """
    if not isinstance(value, dict):
        raise InputInvalid(f"{name} must be an object, found {type(value).__name__}")
    return value


def as_text(value: Any, name: str) -> str:
    """Return `value` if it is text and not empty; NUL, which Postgres cannot hold, becomes U+FFFD.

    Raises:
        InputInvalid: it is not.
    """
    if not isinstance(value, str) or not value:
        raise InputInvalid(f"{name} must be text and not empty, found {value!r:.60}")
    return value.replace("\x00", "�")


def as_texts(value: Any, name: str) -> dict[str, str]:
    """Return an object as a map of texts, null as an empty one; what is not text inside becomes its JSON.

    Raises:
        InputInvalid: it is neither an object nor null.
    """
    if value is None:
        return {}
    items: Mapping[str, Any] = as_object(value, name)
    return {
        _clean(key): _clean(item if isinstance(item, str) else orjson.dumps(item).decode())
        for key, item in items.items()
    }


def _clean(text: str) -> str:
    return text.replace("\x00", "�")


def as_moment(value: Any, name: str) -> datetime | None:
    """Return an RFC 3339 time in UTC; None for null, for nothing, and for the year 1, which means "none".

    Raises:
        InputInvalid: it is not a time, or has no zone.
    """
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("it has no time zone")
        if moment.year <= _NO_TIME:
            return None
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputInvalid(f"{name} is not an RFC 3339 time with a zone: {value!r:.60} ({error})") from error
