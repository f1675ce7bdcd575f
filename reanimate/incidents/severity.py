"""Impact × users gives a severity, and each severity its recovery time objective (RTO)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

__all__ = ["RTO", "WARN_AT", "Impact", "Severity", "Users", "due_warnings", "severity_of"]


class Severity(StrEnum):
    P0 = "P0"  # completely unavailable, all users
    P1 = "P1"  # core function unavailable, some users
    P2 = "P2"  # partly degraded, a few users
    P3 = "P3"  # slight, single users


class Impact(StrEnum):
    UNAVAILABLE = "unavailable"
    CORE = "core"
    PARTIAL = "partial"
    SLIGHT = "slight"


class Users(StrEnum):
    ALL = "all"
    SOME = "some"
    FEW = "few"
    SINGLE = "single"


RTO: dict[Severity, timedelta] = {
    Severity.P0: timedelta(minutes=15),
    Severity.P1: timedelta(hours=1),
    Severity.P2: timedelta(hours=4),
    Severity.P3: timedelta(hours=24),
}

# Rows: impact. Columns: all, some, few, single.
_TABLE: dict[Impact, tuple[Severity, Severity, Severity, Severity]] = {
    Impact.UNAVAILABLE: (Severity.P0, Severity.P1, Severity.P1, Severity.P2),
    Impact.CORE: (Severity.P1, Severity.P1, Severity.P2, Severity.P2),
    Impact.PARTIAL: (Severity.P2, Severity.P2, Severity.P2, Severity.P3),
    Impact.SLIGHT: (Severity.P2, Severity.P3, Severity.P3, Severity.P3),
}

WARN_AT: tuple[float, ...] = (0.5, 0.8, 1.0)


def severity_of(impact: Impact, users: Users) -> Severity:
    """Look the pair up in the table."""
    return _TABLE[impact][list(Users).index(users)]


@dataclass(frozen=True)
class RtoWarning:
    """One threshold of the RTO clock that has been passed."""

    share: float
    message: str


def due_warnings(opened_at: datetime, deadline: datetime, given: set[float], now: datetime) -> list[RtoWarning]:
    """Return the warnings of the RTO clock that are due at `now` and not among those already `given` (shares of 1)."""
    total = (deadline - opened_at).total_seconds()
    spent = (now - opened_at).total_seconds()
    due = [share for share in WARN_AT if share not in given and spent >= total * share]
    return [
        RtoWarning(
            share,
            f"{share:.0%} of the recovery time objective is spent: {spent:.0f} of {total:.0f} s"
            + ("; it is missed" if share >= 1 else f", {total - spent:.0f} s left"),
        )
        for share in due
    ]
