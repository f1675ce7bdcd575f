"""Which thresholds of a quota are crossed, and which are not any more. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Standing", "crossed"]

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
    """Return the thresholds that are crossed, lowest first. A limit of 0 has none: it is meant to be empty.

    The last tokens of a quota are rarely used up exactly: it is exhausted when calls are refused for lack of it.
    """
    if not standing.limit:
        return ()
    thresholds: Iterable[float] = standing.terms.get("alert_at") or _DEFAULT
    is_out = standing.was_refused and standing.share >= 0.5
    return tuple(at for at in sorted(thresholds) if standing.share >= at or (at == 1.0 and is_out))
