"""One thing held against what a backup says: the unit of every verification and every proof."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Check", "failures"]


@dataclass(frozen=True)
class Check:
    """One thing held against the manifest."""

    name: str
    passed: bool
    expected: str
    found: str


def failures(checks: Iterable[Check]) -> str:
    """Name each failed check with what was expected and found; empty when none failed."""
    return "; ".join(
        f"{check.name}: expected {check.expected}, found {check.found}" for check in checks if not check.passed
    )
