"""How a benchmark reports: rows of medians and ranges, and one line per goal; as a table or as JSON."""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Goal", "Report", "Row", "arguments", "parser", "percentile"]


@dataclass(frozen=True)
class Row:
    """One figure of one candidate, with a value per round."""

    who: str
    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        return {
            "who": self.who,
            "what": self.what,
            "unit": self.unit,
            "median": round(self.median, 4),
            "low": round(min(self.values), 4),
            "high": round(max(self.values), 4),
            "rounds": len(self.values),
        }


@dataclass(frozen=True)
class Goal:
    """A promise and what was measured: `value` is to be at most `goal` or, with `at_least`, at least that."""

    name: str
    value: float
    unit: str
    goal: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": self.goal,
            "holds": self.holds,
        }


@dataclass
class Report:
    """Everything one run found."""

    title: str
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def show(self, as_json: bool) -> int:
        """Print it on standard output and return the exit code: 0 when every goal holds."""
        if as_json:
            document = {"rows": [row.as_json() for row in self.rows], "goals": [goal.as_json() for goal in self.goals]}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            self._show_table(Console())
        return 0 if all(goal.holds for goal in self.goals) else 1

    def _show_table(self, console: Console) -> None:
        table = Table(title=self.title)
        for name in ("who", "what", "median", "range", "unit", "rounds"):
            table.add_column(name, justify="right" if name in ("median", "range", "rounds") else "left")
        for row in self.rows:
            spread = f"{min(row.values):.4g} – {max(row.values):.4g}"
            table.add_row(row.who, row.what, f"{row.median:.4g}", spread, row.unit, str(len(row.values)))
        console.print(table)
        for goal in self.goals:
            sign, word = ("≥" if goal.at_least else "≤"), ("holds" if goal.holds else "DOES NOT HOLD")
            console.print(
                f"{goal.name}: {goal.value:.4g} {goal.unit} (goal {sign} {goal.goal:g}): {word}", highlight=False
            )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: a value that was really measured, never one in between."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def parser(description: str, **defaults: float) -> argparse.ArgumentParser:
    """Return the command line every benchmark has: `--json`, and a number for each of `defaults`."""
    built = argparse.ArgumentParser(description=description)
    built.add_argument("--json", action="store_true", help="print one JSON object")
    for name, value in defaults.items():
        built.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value:g}")
    return built


def arguments(description: str, **defaults: float) -> argparse.Namespace:
    """Parse that command line."""
    return parser(description, **defaults).parse_args()
