"""Whether the watch itself can see. Pure: when nothing at all answers, the common cause is nearer than everybody."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from reanimate.watch.sample import Sample

__all__ = ["Sight", "View", "look"]


class Sight(StrEnum):
    SEES = "sees"
    """Something answered since: whoever is silent may be accused."""
    UNSURE = "unsure"
    """Somebody has not been asked since, or the answer is still out: wait."""
    BLIND = "blind"
    """Everybody was asked since, and nothing came back from anywhere."""


@dataclass(frozen=True)
class View:
    """The latest that is known of one watched thing; seconds of a monotonic clock."""

    name: str
    heard_at: float | None = None
    """When the last answer of any kind came in; a refusal is an answer, a host gave it."""
    silent_since: float | None = None
    """When the last probe that nothing came back from was asked."""

    def after(self, sample: Sample) -> "View":
        """Return the view with one more finished sample."""
        if sample.silent:
            return View(self.name, self.heard_at, max(sample.asked, self.silent_since or sample.asked))
        return View(self.name, max(sample.answered, self.heard_at or sample.answered), self.silent_since)


def look(views: Iterable[View], since: float) -> Sight:
    """Judge sight from everything watched; `since` is when the first unanswered probe of the accused was asked."""
    views = tuple(views)
    if any(view.heard_at is not None and view.heard_at >= since for view in views):
        return Sight.SEES
    if all(view.silent_since is not None and view.silent_since >= since for view in views):
        return Sight.BLIND
    return Sight.UNSURE
