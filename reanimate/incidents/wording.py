"""How figures read to people: durations, moments, sizes, names; the same on pages, terminals and postmortems."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["as_moment", "clock_time", "count", "duration", "latency", "moment", "readable", "share", "size", "words"]

_ABBREVIATIONS = {
    "api": "API",
    "cpu": "CPU",
    "id": "ID",
    "llm": "LLM",
    "rto": "RTO",
    "sha256": "SHA-256",
    "url": "URL",
}


def as_moment(value: datetime | str | None) -> datetime | None:
    """Return `value` as an aware moment in UTC; text is read as ISO 8601."""
    if value is None or value == "":
        return None
    read = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def duration(seconds: float | None) -> str:
    """Say a length of time in its two greatest units; a dash when it is not known."""
    if seconds is None:
        return "–"
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for name, unit, lower_name, lower in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= unit:
            head, rest = divmod(whole, unit)
            return f"{head} {name} {rest // lower} {lower_name}" if rest // lower else f"{head} {name}"
    return f"{whole} s"


def latency(milliseconds: float | None) -> str:
    """Say how long a call took; a dash when it is not known."""
    if milliseconds is None:
        return "–"
    if milliseconds >= 10_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def moment(value: datetime | str | None) -> str:
    """Say a moment to the second, with its date and zone."""
    read = as_moment(value)
    return f"{read:%Y-%m-%d %H:%M:%S} UTC" if read else "–"


def clock_time(value: datetime | str | None) -> str:
    """Say a moment's time of day in UTC to the millisecond, without the date."""
    read = as_moment(value)
    return f"{read:%H:%M:%S}.{read.microsecond // 1000:03d}" if read else "–"


def count(number: float | None, one: str = "", many: str = "") -> str:
    """Say a number with thin groups of three, and with its noun if one is given."""
    if number is None:
        return "–"
    text = f"{number:,.0f}" if float(number).is_integer() else f"{number:,.2f}"
    noun = one if number == 1 else (many or (one + "s" if one else ""))
    return f"{text} {noun}" if noun else text


def share(part: float | None) -> str:
    """Say a share of one as per cent; small ones keep a digit behind the point."""
    if part is None:
        return "–"
    per_cent = part * 100
    return f"{per_cent:.1f} %" if 0 < per_cent < 10 else f"{per_cent:.0f} %"


def size(number: int | None) -> str:
    """Say a number of bytes in binary units."""
    if number is None:
        return "–"
    amount = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def words(name: str) -> str:
    """Turn a name of the code (`vector_database_down`) into words (`vector database down`)."""
    return " ".join(_ABBREVIATIONS.get(part, part) for part in name.split("_"))


def readable(value: Any) -> str:
    """Say any JSON value on one line without its punctuation: `size 384, distance Cosine`."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(_pair(str(key), item) for key, item in value.items()) or "nothing"
    if isinstance(value, (list, tuple)):
        separator = "; " if any(isinstance(item, (Mapping, list, tuple)) for item in value) else ", "
        return separator.join(readable(item) for item in value) or "none"
    return str(value)


def _pair(key: str, value: Any) -> str:
    """Say one key with its value; the code's names for lengths of time end in `_s`."""
    if key.endswith("_s") and isinstance(value, (int, float)):
        return f"{words(key[:-2])} {duration(value)}"
    return f"{words(key)} {_inner(value)}"


def _inner(value: Any) -> str:
    return f"({readable(value)})" if isinstance(value, (Mapping, list, tuple)) else readable(value)
