"""One finding of the doctor."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level", "clock_finding", "fail", "ok", "warn"]


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"  # it works, until the day it matters
    FAIL = "fail"  # it does not work


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and, unless all is well, what to do about it."""

    about: str
    level: Level
    found: str
    to_do: str = ""


def ok(about: str, found: str) -> Finding:
    return Finding(about, Level.OK, found)


def warn(about: str, found: str, to_do: str) -> Finding:
    return Finding(about, Level.WARN, found, to_do)


def fail(about: str, found: str, to_do: str) -> Finding:
    return Finding(about, Level.FAIL, found, to_do)


_WARN_SKEW_S = 2.0
_FAIL_SKEW_S = 30.0


def clock_finding(about: str, ahead_s: float) -> Finding:
    """Judge how far another machine's clock is from ours (positive: it is ahead).

    Signed switch documents expire and deadlines are moments: half a minute apart breaks both.
    """
    away = abs(ahead_s)
    found = f"{away:.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine"
    if away >= _FAIL_SKEW_S:
        return fail(f"clock of {about}", found, "synchronise both clocks by NTP")
    if away >= _WARN_SKEW_S:
        return warn(f"clock of {about}", found, "synchronise both clocks by NTP")
    return ok(f"clock of {about}", f"within {_WARN_SKEW_S:.0f} s of this machine's")
