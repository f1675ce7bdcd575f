"""What an agent counts: how often (whole numbers) and how long at most (seconds)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Self

__all__ = ["Tally"]


@dataclass
class Tally(ABC):
    """The base of what agents count."""

    asked: int = 0

    def copy(self) -> Self:
        return replace(self)

    def since(self, before: Self) -> Self:
        """Return what came after `before`; the longest times are those since they were forgotten."""
        counts = {
            field.name: getattr(self, field.name) - getattr(before, field.name)
            for field in fields(self)
            if field.type is int
        }
        return replace(self, **counts)

    def forget_longest(self) -> None:
        """Begin anew with the longest times."""
        for field in fields(self):
            if field.type is float:
                setattr(self, field.name, 0.0)

    def remember_longest(self, before: Self) -> None:
        """Let longest times that were forgotten count again."""
        for field in fields(self):
            if field.type is float:
                setattr(self, field.name, max(getattr(self, field.name), getattr(before, field.name)))

    @abstractmethod
    def failures(self) -> int:
        """Return how many of the questions went wrong in any way."""

    @abstractmethod
    def told(self) -> str:
        """Return it all in one line."""
