"""The count of a corruption sweep: what was damaged, by kind, and what was not found; told at the end of the run."""

from collections import Counter

import pytest

__all__ = ["SWEEPS", "Sweep"]


class Sweep:
    """Counts damages and those that nobody noticed."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.missed: list[str] = []

    def count(self, kind: str, what: str, *, found: bool) -> None:
        """Count one damage."""
        self.tried[kind] += 1
        if not found:
            self.missed.append(f"{kind}: {what}")

    @property
    def told(self) -> str:
        """All of it in a few lines."""
        total = sum(self.tried.values())
        kinds = "".join(f"\n  {count:>6}  {kind}" for kind, count in self.tried.items())
        return f"corruption sweep: {total - len(self.missed)} of {total} damages were found before use{kinds}"


SWEEPS = pytest.StashKey[list[Sweep]]()
