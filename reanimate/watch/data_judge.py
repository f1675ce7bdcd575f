"""Whether the data is really there: which findings are a loss, and how often one must be seen. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

__all__ = ["DataOutcome", "DataStanding", "DataState", "Loss", "judge_data", "reprobe_after"]

SEEN = 2
"""A loss must be seen this often in a row."""
SILENT_SEEN = 3
"""Reads that no answer comes to, though the health check is answered, must be seen this often in a row."""
GOOD_SEEN = 2
REPROBE_S = 0.5
REPROBE_MISSING_S = 0.2


class DataState(StrEnum):
    UNKNOWN = "unknown"
    GOOD = "good"
    LOST = "lost"
    SILENT = "silent"
    """The server answers its health check, and no read."""


@dataclass(frozen=True)
class Loss:
    """One finding that means loss, as evidence."""

    check: str
    expected: str
    found: str
    detail: str = ""

    @property
    def missing(self) -> bool:
        """The collection is gone altogether."""
        return self.check == "collection"


@dataclass(frozen=True)
class DataOutcome:
    """One data probe's result: good, a loss (with what is lost), or silence (`losses` empty, `silent` true)."""

    at: datetime
    losses: tuple[Loss, ...] = ()
    silent: bool = False
    detail: str = ""

    @property
    def good(self) -> bool:
        return not self.losses and not self.silent

    def as_evidence(self) -> Iterable[dict[str, str]]:
        for loss in self.losses:
            yield {
                "at": self.at.isoformat(),
                "check": loss.check,
                "found": loss.found,
                "expected": loss.expected,
                "detail": loss.detail,
            }
        if self.silent:
            yield {
                "at": self.at.isoformat(),
                "check": "reads",
                "found": "no answer",
                "expected": "an answer",
                "detail": self.detail,
            }


@dataclass(frozen=True)
class DataStanding:
    """What is known of one collection on one target."""

    state: DataState = DataState.UNKNOWN
    ever_good: bool = False
    lost: int = 0
    silent: int = 0
    good: int = 0
    bad_since: datetime | None = None


def judge_data(standing: DataStanding, outcome: DataOutcome, *, must_have_been_good: bool = False) -> DataStanding:
    """Fold one outcome in.

    Args:
        must_have_been_good: do not judge before the data was once seen good here. A replica that was never
            seeded with this collection has lost nothing.
    """
    if outcome.good:
        good = standing.good + 1
        ill = standing.state in (DataState.LOST, DataState.SILENT)
        state = standing.state if ill and good < GOOD_SEEN else DataState.GOOD
        bad_since = None if state is DataState.GOOD else standing.bad_since
        return DataStanding(state=state, ever_good=True, good=good, bad_since=bad_since)
    if must_have_been_good and not standing.ever_good:
        return standing
    counted = replace(
        standing,
        good=0,
        lost=standing.lost + 1 if outcome.losses else 0,
        silent=standing.silent + 1 if outcome.silent else 0,
        bad_since=standing.bad_since or outcome.at,
    )
    if counted.lost >= SEEN:
        return replace(counted, state=DataState.LOST)
    if counted.silent >= SILENT_SEEN and standing.state is not DataState.LOST:
        return replace(counted, state=DataState.SILENT)
    return counted


def reprobe_after(standing: DataStanding, outcome: DataOutcome, interval_s: float) -> float:
    """Say in how many seconds to look again: soon while a verdict, good or bad, wants to be confirmed."""
    confirming_good = outcome.good and standing.state in (DataState.LOST, DataState.SILENT)
    confirming_bad = bool(outcome.losses) and 0 < standing.lost < SEEN
    if confirming_bad and any(loss.missing for loss in outcome.losses):
        return REPROBE_MISSING_S
    if confirming_bad or confirming_good or 0 < standing.silent < SILENT_SEEN:
        return REPROBE_S
    return interval_s
