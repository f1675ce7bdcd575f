"""What this gateway holds of one account in one window, and what its calls have drawn of it. No I/O, no clock."""

from dataclasses import dataclass
from math import inf

import orjson

from reanimate.gateway.llm.quota.book import DRAWN, GRANTED, HEARD, LEFT, TOLD, Page
from reanimate.llm_settings import QuotaSettings
from reanimate.quota.amounts import split
from reanimate.quota.demand import AccountKey, Demand, Lent, Meter

__all__ = ["METERS", "Purse", "Terms"]

METERS = (Meter.TOKENS, Meter.REQUESTS, Meter.MONEY)
"""In the order in which amounts of a call are listed."""

_ASK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """The limits of one meter of a quota, as whole numbers."""

    quota: QuotaSettings
    meter: Meter
    limit: int
    reserve: int
    lease: int
    away: int
    text: str
    """For the record."""

    @classmethod
    def of(cls, quota: QuotaSettings, meter: Meter) -> "Terms | None":
        """Return what the quota says of this meter; None if it does not limit it."""
        limits = split(quota, meter)
        if limits is None:
            return None
        limit, reserve = limits
        whole = limit + reserve
        text = orjson.dumps(
            {
                "window": quota.window,
                "timezone": quota.timezone,
                "model": quota.model,
                "tenants": quota.tenant,
                "alert_at": sorted(set(quota.alert_at)),
                "reserve": reserve,
            }
        ).decode()
        return cls(
            quota, meter, limit, reserve, _part(whole, quota.lease), _part(whole, quota.away), text
        )  # fmt: skip


def _part(whole: int, share: float) -> int:
    """A share of a limit, one at least: a part of a request cannot be lent."""
    return max(1, int(whole * share)) if whole and share else 0


class Purse:
    """`drawn` may go up to `ceiling` without a word to anybody; everything else is about moving the ceiling."""

    __slots__ = (
        "_at", "_cells", "asked_at", "backup", "ceiling", "drawn", "ends", "granted", "heard", "held",
        "incident", "key", "left", "limit", "meter", "open_until", "others", "page", "prefetch_at", "refused_until",
        "renewed_drawn", "terms", "told", "underway", "wanted",
    )  # fmt: skip

    def __init__(self, key: AccountKey, ends: int, terms: Terms, page: Page) -> None:
        self.key = key
        self.ends = ends
        self.terms = terms
        self.meter = METERS.index(terms.meter)
        self.limit = self.own_limit
        self.page = page
        self._cells, self._at = page.cells, page.base + DRAWN
        self.drawn: int = page.cells[page.base + DRAWN]
        """Used by calls that have ended, and reserved by those that go on. After a restart, all of it is used."""
        self.underway = 0
        """Of `drawn`, what is only reserved."""
        self.granted: int = page.cells[page.base + GRANTED]
        self.heard = bool(page.cells[page.base + HEARD])
        self.left: int = page.cells[page.base + LEFT] if self.heard else self.limit
        if self.heard:
            # What people granted on top is in no settings: this much there was, as the record said last.
            self.limit = max(self.limit, self.granted + self.left)
        self.told: int = page.cells[page.base + TOLD]
        """What was drawn when the control plane was last asked with success."""
        self.others = 0
        """What other gateways have used, as far as is known."""
        self.held = 0
        """What other gateways hold."""
        self.ceiling = self.granted
        self.prefetch_at: float = inf
        """When this much is drawn, the next lease is asked for."""
        self.wanted = False
        self.asked_at = 0.0
        self.renewed_drawn = self.drawn
        self.refused_until = 0.0
        self.open_until = 0.0
        self.backup: Purse | None = None
        """The reserve, once a call was allowed to look at it."""
        self.incident = ""
        """Of the reserve: whose recovery last asked for it."""

    @property
    def own_limit(self) -> int:
        """What the settings say, without what was granted on top, which the record alone knows and adds."""
        return self.terms.limit if self.key.pot == "normal" else self.terms.reserve

    @property
    def spent(self) -> int:
        return self.drawn - self.underway

    @property
    def share_left(self) -> float:
        """Return what is left of the limit, of 1, by what is known here."""
        return max(0.0, 1.0 - (self.others + self.drawn) / self.limit) if self.limit else 0.0

    def take(self, amount: int) -> bool:
        """Reserve; the room was looked at before. Say whether it is time to ask for more."""
        self.drawn += amount
        self.underway += amount
        self._cells[self._at] = self.drawn
        return self.drawn > self.prefetch_at

    def settle(self, reserved: int, used: int) -> None:
        """Put what was used in the place of what was reserved, be it more or less."""
        self.drawn += used - reserved
        self.underway -= reserved
        self._cells[self._at] = self.drawn

    def is_hopeless(self, amount: int, now: float) -> bool:
        """Say whether asking for this much is known to be in vain for the moment."""
        return self.refused_until > now and amount > self.left + self.ceiling - self.drawn

    def demand(self, needs: int, all_needs: int, now: float) -> Demand:
        """Return what to ask for calls that wait: `needs` for the first of them, `all_needs` for all.

        What nobody asked for since the last time is given back first: it must not be used while the word is underway.
        """
        wanted, self.wanted = self.wanted or all_needs > 0, False
        self.prefetch_at = inf
        if not wanted and (now >= self.ends or self.drawn == self.renewed_drawn):
            self._set(self.drawn, self.drawn)
        self.renewed_drawn = self.drawn
        self.asked_at = now
        hold = max(self.granted, self.drawn)
        room = self.granted - self.drawn
        return Demand(
            key=self.key,
            ends=self.ends,
            limit=self.own_limit,
            lease=self.terms.lease,
            lease_s=self.terms.quota.lease_s,
            spent=self.spent,
            drawn=self.drawn,
            hold=hold,
            need=max(0, needs - max(0, room)),
            want=max(0, self.terms.lease + all_needs - max(0, room)) if wanted else 0,
            terms=self.terms.text,
            reserve=self.terms.reserve if self.key.pot == "normal" else 0,
            incident=self.incident,
        )

    def lent(self, demand: Demand, answer: Lent, now: float) -> None:
        """Obey an answer to a demand."""
        self.limit = answer.limit
        self.left = answer.left
        self.others = max(0, answer.spent - demand.spent)
        self.held = answer.held
        self.open_until = answer.open_until
        self.told = demand.drawn
        self.heard = True
        self._set(answer.granted, answer.granted)
        if answer.refused:
            self.refused_until = now + _ASK_AGAIN_S
        block = min(self.terms.lease, answer.granted - demand.drawn)
        self.prefetch_at = answer.granted - block / 2 if answer.left > 0 and block > 0 else inf

    def go_on_alone(self) -> None:
        """Move the ceiling to where it is while the control plane is silent.

        Since it was last heard, no more than the lease that was left then, or the bound `away`, is given out; and what
        goes beyond the lease must have been left at that time.
        """
        beyond = max(0, self.told + self.terms.away - self.granted)
        self.ceiling = self.granted + min(beyond, self.left)
        self.prefetch_at = inf

    def leave_book(self, page: Page) -> None:
        """Go on in memory: the book is closed, and a call that ends late must not stumble over that."""
        self.page = page
        self._cells, self._at = page.cells, page.base + DRAWN

    def _set(self, granted: int, ceiling: int) -> None:
        self.granted, self.ceiling = granted, ceiling
        cells, base = self.page.cells, self.page.base
        cells[base + GRANTED], cells[base + LEFT], cells[base + TOLD] = granted, self.left, self.told
        cells[base + HEARD] = self.heard
