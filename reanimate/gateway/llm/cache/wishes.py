"""What the caller wants of a cache: `Cache-Control` of the request, as RFC 9111 and RFC 5861 have it."""

import math
from dataclasses import dataclass

__all__ = ["Wishes", "read_wishes"]

_KNOWN_KEPT = 1_000
_known: dict[bytes, "Wishes"] = {}


@dataclass(frozen=True, slots=True)
class Wishes:
    """Without a header there are none."""

    no_store: bool = False
    """Nothing of this is kept, and nothing that was kept is given."""
    no_cache: bool = False
    """Nothing that was kept is given, also not when nobody answers."""
    only_if_cached: bool = False
    """No provider is asked."""
    max_age_s: float = math.inf
    min_fresh_s: float = 0.0
    max_stale_s: float = 0.0
    """How far beyond its freshness an answer may be given while providers answer."""
    stale_if_error_s: float = math.inf
    """The same when nobody answers."""


NONE = Wishes()


def read_wishes(headers: list[tuple[bytes, bytes]]) -> Wishes:
    """Return what the headers (names in lower case) ask for; what is not understood is passed over."""
    said = b""
    for name, value in headers:
        if name == b"cache-control":
            said = said + b"," + value if said else value
    if not said:
        return NONE
    if (wishes := _known.get(said)) is None:
        wishes = _parse(said.decode("latin-1"))
        if len(_known) < _KNOWN_KEPT:
            _known[said] = wishes
    return wishes


def _parse(said: str) -> Wishes:
    given: dict[str, str] = {}
    for part in said.split(","):
        name, _, value = part.strip().partition("=")
        given[name.strip().lower()] = value.strip().strip('"')
    return Wishes(
        no_store="no-store" in given,
        no_cache="no-cache" in given,
        only_if_cached="only-if-cached" in given,
        max_age_s=_seconds(given, "max-age", absent=math.inf),
        min_fresh_s=_seconds(given, "min-fresh", absent=0.0),
        max_stale_s=_seconds(given, "max-stale", absent=0.0, bare=math.inf),
        stale_if_error_s=_seconds(given, "stale-if-error", absent=math.inf, bare=math.inf),
    )


def _seconds(given: dict[str, str], name: str, *, absent: float, bare: float | None = None) -> float:
    value = given.get(name)
    if value is None:
        return absent
    if not value and bare is not None:
        return bare
    return float(value) if value.isascii() and value.isdigit() else absent
