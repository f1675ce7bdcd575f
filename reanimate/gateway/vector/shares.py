"""Which targets may answer a read, and which is asked first. Pure; the random draw is passed in."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Plan", "divide"]


def divide(bounds: Sequence[int]) -> tuple[int, ...]:
    """Divide 100 % of the reads: each target, in order, gets as much of what is left as its bound allows."""
    left = 100
    given = []
    for bound in bounds:
        share = min(left, max(0, bound))
        given.append(share)
        left -= share
    return tuple(given)


@dataclass(frozen=True, slots=True)
class Plan:
    """For one name: who may answer, in the order of the settings (the primary first), and each one's share in percent.

    A target whose bound is 0 is in neither: it is held for a reason and must not answer, whatever else fails.
    """

    eligible: tuple[str, ...]
    weights: tuple[int, ...]
    held: tuple[str, ...]

    @classmethod
    def of(cls, bounds: Sequence[tuple[str, int]]) -> "Plan":
        """Make the plan from (target, bound 0–100) pairs."""
        open_to = [(target, bound) for target, bound in bounds if bound > 0]
        return cls(
            eligible=tuple(target for target, _ in open_to),
            weights=divide([bound for _, bound in open_to]),
            held=tuple(target for target, bound in bounds if bound <= 0),
        )

    def order(self, draw: float) -> tuple[str, ...]:
        """Return the targets to ask, the first by weight and the rest in their order. `draw` is in [0, 1)."""
        if len(self.eligible) < 2 or self.weights[0] == 100:
            return self.eligible
        left = draw * sum(self.weights)
        for target, weight in zip(self.eligible, self.weights, strict=True):
            left -= weight
            if left < 0:
                return (target, *(other for other in self.eligible if other != target))
        return self.eligible
