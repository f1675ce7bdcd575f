"""Which thresholds of a quota are crossed, and which are not any more. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Standing", "crossed", "is_used_up"]

_DEFAULT = (0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands: what was used of what, whether calls were refused, and how it is set."""

    quota: str
    tenant: str
    meter: str
    starts: int
    ends: int
    limit: int
    spent: int
    was_refused: bool
    terms: dict[str, Any]

    @property
    def share(self) -> float:
        return self.spent / self.limit if self.limit else 0.0


def crossed(standing: Standing) -> tuple[float, ...]:
    """Return the thresholds that are crossed, lowest first. A limit of 0 has none: it is meant to be empty."""
    if not standing.limit:
        return ()
    thresholds: Iterable[float] = standing.terms.get("alert_at") or _DEFAULT
    is_out = is_used_up(standing.limit, standing.spent, standing.was_refused)
    return tuple(at for at in sorted(thresholds) if standing.share >= at or (at == 1.0 and is_out))


def is_used_up(limit: int, spent: int, was_refused: bool) -> bool:
    """Say whether there is none left: the last tokens are rarely used exactly, calls are refused before that."""
    return spent >= limit or (was_refused and spent * 2 >= limit)
