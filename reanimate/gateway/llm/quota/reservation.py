"""What one call has reserved, until it is known what it used."""

from math import ceil

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.catalogue import Target
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.quota.purse import Purse
from reanimate.gateway.llm.quota.purses import Plan
from reanimate.quota.demand import NANO

__all__ = ["Amounts", "Reservation", "estimate"]

Amounts = tuple[int, int, int]
"""Tokens, requests, money: as in METERS."""


def estimate(call: Call, target: Target | None) -> Amounts:
    """Return what a call may use, at the prices of `target`."""
    needs = call.prompt.needs
    if call.prompt.endpoint.shape is Shape.COUNT_TOKENS:
        return 0, 1, 0
    money = price(target, needs.input_tokens, needs.output_tokens) if target is not None else 0
    return needs.input_tokens + needs.output_tokens, 1, money


def price(target: Target, input_tokens: int, output_tokens: int) -> int:
    """Return what tokens cost, rounded up."""
    can = target.can
    if not can.input_price and not can.output_price:
        return 0
    return ceil(target.price(input_tokens, output_tokens) * NANO)


class Reservation:
    """Ended by `settle` or `release`, whichever comes first; ended again, nothing happens."""

    __slots__ = ("_amounts", "_call", "_held", "_is_open", "_plan", "_target")

    def __init__(
        self, call: Call, plan: Plan, target: Target | None, held: tuple[tuple[Purse, int], ...], amounts: Amounts
    ) -> None:
        self._call = call
        self._plan = plan
        self._target = target
        """Whose own quotas are in `held`."""
        self._held = held
        self._amounts = amounts
        self._is_open = True

    @property
    def remaining(self) -> int | None:
        """Return the tokens that are left in the tightest quota, as far as is known; None when none limits tokens."""
        if not self._held:
            return None
        left = [purse.limit - purse.others - purse.drawn for purse, _ in self._held if purse.meter == 0]
        return max(0, min(left)) if left else None

    def release(self) -> None:
        """End it for a call that nobody answered; what attempts say that they used is counted all the same."""
        if any(attempt.usage is not None for attempt in self._call.attempts):
            self.settle(Usage(), None)
        elif self._is_open:
            self._is_open = False
            for purse, amount in self._held:
                purse.settle(amount, 0)

    def settle(self, usage: Usage, target: Target | None) -> None:
        """End it with what was really used, and by whom. More than was reserved is counted, never refused."""
        if not self._is_open:
            return
        self._is_open = False
        if not self._held and not self._plan.targets:
            return
        used = self._used(usage, target)
        moved = self._target is not None and (target is None or target.name != self._target.name)
        own = self._plan.targets.get(self._target.name, ()) if moved and self._target is not None else ()
        for purse, amount in self._held:
            is_own = any(purse is each or purse is each.backup for each in own)
            purse.settle(amount, 0 if is_own else used[purse.meter])
        if target is not None and (moved or self._target is None):
            for purse in self._plan.targets.get(target.name, ()):
                purse.settle(0, used[purse.meter])

    def _used(self, usage: Usage, target: Target | None) -> Amounts:
        """Count every attempt that says what it used: the ones that lost a race were paid too."""
        tokens = money = 0
        for attempt in self._call.attempts:
            if (told := attempt.usage) is not None:
                tokens += told.input_tokens + told.output_tokens
                money += price(attempt.target, told.input_tokens, told.output_tokens)
        given = usage.input_tokens + usage.output_tokens
        if given > tokens:
            tokens = given
            money = max(money, price(target, usage.input_tokens, usage.output_tokens) if target is not None else 0)
        if not tokens and target is not None:
            return self._amounts  # it does not say: what was reserved is the best that is known
        return tokens, 1 if target is not None else 0, money
