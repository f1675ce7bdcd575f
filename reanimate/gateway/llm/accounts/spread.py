"""How durations spread: counted in bins that each reach 4 % further than the one before. Pure."""

import math
from collections.abc import Mapping

__all__ = ["Spread", "bin_of"]

_STEPS = 16
"""Bins for each doubling."""
_LEAST_S = 1e-5
_LEAST = math.ceil(math.log2(_LEAST_S * 1000) * _STEPS)


def bin_of(seconds: float) -> int:
    """Return the bin of a duration."""
    return math.ceil(math.log2(seconds * 1000) * _STEPS) if seconds > _LEAST_S else _LEAST


class Spread:
    """Counts by bin."""

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._counts = sorted(counts.items())
        self.total = sum(counts.values())

    def quantile_ms(self, share: float) -> float | None:
        """Return what this share of the durations did not exceed, in milliseconds; None: there were none."""
        left = math.ceil(self.total * share)
        for place, count in self._counts:
            left -= count
            if left <= 0:
                return round(2 ** (place / _STEPS), 3)
        return None

    def to_json(self) -> dict[str, float | None]:
        return {name: self.quantile_ms(share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
