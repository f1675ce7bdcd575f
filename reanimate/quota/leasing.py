"""Lending parts of a limit to gateways. Decisions only; pure.

What is lent can be used without a word. Together, all gateways are never lent more than the limit; a gateway that is
silent for longer than its lease loses what it had not drawn by its last word, though it may be using it: that, or what
it may give out while it hears nothing, is the bound by which a limit can be exceeded, for each gateway once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reanimate.quota.demand import Demand, Lent

__all__ = ["Account", "Lease", "lend", "without"]

_SKEW_S = 60
"""How far a gateway's clock may be off: it gets nothing of a window that is further away."""
_LEASES_KEPT = 100
_PLENTY = 0.1
"""Of a limit: with more than this left, nothing is used up, whatever was refused before."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one book of one gateway was lent in a window, and what it said of it, in totals."""

    granted: int
    drawn: int
    spent: int
    seq: int
    until: float

    @property
    def claim(self) -> int:
        """What nobody else can have."""
        return max(self.granted, self.drawn, self.spent)


@dataclass(frozen=True, slots=True)
class Account:
    """One meter of one quota in one window."""

    extra: int = 0
    settled: int = 0
    refused_at: float | None = None
    leases: Mapping[str, Lease] = field(default_factory=dict)
    """By gateway/book."""

    @property
    def spent(self) -> int:
        return self.settled + sum(lease.spent for lease in self.leases.values())

    @property
    def held(self) -> int:
        return sum(lease.claim - lease.spent for lease in self.leases.values())


def lend(
    account: Account, gateway: str, book: str, seq: int, demand: Demand, now: float, *, may: bool = True
) -> tuple[Account, Lent]:
    """Answer one demand. A request that came late, or once more, changes nothing.

    `may`: whether anything may be lent at all; what was used is taken note of all the same.
    """
    holder = f"{gateway}/{book}"
    leases = _without_late(account.leases, now)
    mine = leases.get(holder)
    if mine is not None and seq > mine.seq and demand.drawn < mine.spent:
        # Totals never shrink: the gateway has forgotten them, and begins anew.
        account = replace(account, settled=account.settled + mine.claim)
        del leases[holder]
        mine = None
    limit = demand.limit + account.extra
    others = account.settled + sum(lease.claim for name, lease in leases.items() if name != holder)
    held = sum(lease.claim - lease.drawn for name, lease in leases.items() if name != holder)
    if mine is not None and seq <= mine.seq:
        left = max(0, limit - others - mine.claim)
        return account, Lent(mine.granted, account.spent, left, limit, held=held)
    kept = demand.drawn
    if mine is not None and mine.until > now:
        kept = max(kept, min(demand.hold, mine.granted))
    lost = demand.hold - kept
    need = demand.need + lost if demand.need else 0
    free = max(0, limit - others - kept) if may and _is_now(demand, now) else 0
    alive = 1 + sum(lease.until > now for name, lease in leases.items() if name != holder)
    refused = need > free
    more = 0 if refused else _more(free, need, demand.want + lost, demand.lease, alive)
    granted = kept + more
    changed = {**leases, holder: Lease(granted, demand.drawn, demand.spent, seq, now + demand.lease_s)}
    refused_at = account.refused_at
    if refused and need <= limit:  # a call that is larger than the whole limit says nothing about what is left of it
        refused_at = now
    elif free - more > limit * _PLENTY:
        refused_at = None  # the limit was raised
    after = _fewer(replace(account, leases=changed, refused_at=refused_at))
    return after, Lent(granted, after.spent, free - more, limit, refused, held)


def _more(free: int, need: int, want: int, lease: int, alive: int) -> int:
    """Return how much to lend: at least what a call needs, and what is wanted as long as there is plenty.

    Towards the end a block is a part of what is left, so that no gateway sits on what another one's call needs.
    """
    fair = max(need, -(-free // (2 * alive)))
    return min(free, max(need, min(want, lease, fair)))


def _is_now(demand: Demand, now: float) -> bool:
    return demand.key.starts <= now + _SKEW_S and demand.ends >= now - _SKEW_S


def _without_late(leases: Mapping[str, Lease], now: float) -> dict[str, Lease]:
    """Take back what silent gateways had not drawn.

    Not from one that has begun another book meanwhile: it may never tell what it used since its last word, so that all
    of its lease stays its own.
    """
    spoken = {name.rpartition("/")[0] for name, lease in leases.items() if lease.until > now}
    return {
        name: lease
        if lease.until > now or name.rpartition("/")[0] in spoken
        else replace(lease, granted=max(lease.drawn, lease.spent))
        for name, lease in leases.items()
    }


def _fewer(account: Account) -> Account:
    """Add up the oldest leases when there are very many."""
    if len(account.leases) <= _LEASES_KEPT:
        return account
    oldest = sorted(account.leases, key=lambda name: account.leases[name].until)[: len(account.leases) - _LEASES_KEPT]
    settled = account.settled + sum(account.leases[name].claim for name in oldest)
    return replace(
        account, settled=settled, leases={name: each for name, each in account.leases.items() if name not in oldest}
    )


def without(account: Account, now: float) -> Account:
    """Return the account as it is once what silent gateways hold is taken back."""
    return replace(account, leases=_without_late(account.leases, now))
