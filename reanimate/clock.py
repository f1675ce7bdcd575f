"""The one place that asks what time it is. Rules take `now` as a parameter instead."""

from datetime import UTC, datetime

__all__ = ["ensure_utc", "utcnow"]


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def ensure_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC.

    Raises:
        ValueError: the moment has no time zone; guessing one would move an incident by hours.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone was given: {moment.isoformat()}; times here are aware and UTC")
    return moment.astimezone(UTC)
