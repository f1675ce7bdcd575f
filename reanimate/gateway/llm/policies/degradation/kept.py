"""What the rules hold, kept in a file: a gateway that dies again and again goes on where it was, not at normal."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from reanimate.files import write_atomically
from reanimate.gateway.llm.policies.degradation.rules import LONGEST_HOLD, Holding, State, steps_of
from reanimate.llm_policies import RuleSettings

__all__ = ["KeptHolds", "outline"]

log = logging.getLogger("reanimate.gateway")


class KeptHolds:
    """The file. What is in it are times of the clock on the wall, which goes on while no gateway runs."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self, rules: Sequence[RuleSettings], now: float) -> State:
        """Return what was held when it was last written, of the rules that there are; nothing, of a damaged file."""
        try:
            kept = orjson.loads(self._file.read_bytes())
            return dict(_read(rule, item, now) for item in kept["held"] for rule in rules if rule.name == item["rule"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s is not usable, the degradation rules begin anew: %r", self._file, error)
            return {}

    def write(self, state: State) -> None:
        """Keep what is held now. Where that cannot be, it is told: the rules hold all the same."""
        held = [{"rule": rule, "scope": scope, **asdict(holding)} for (rule, scope), holding in state.items()]
        try:
            write_atomically(self._file, orjson.dumps({"held": held}))
        except OSError as error:
            log.error("%s cannot be written, a restart will forget what the rules hold: %s", self._file, error)  # noqa: TRY400


def outline(state: State) -> dict[tuple[str, str], tuple[float, int, int]]:
    """Return of what is held that which is worth being kept at once: not by how much its signal gets worse."""
    return {key: (holding.until, holding.step, holding.times) for key, holding in state.items()}


def _read(rule: RuleSettings, item: dict[str, Any], now: float) -> tuple[tuple[str, str], Holding]:
    """Raises: ValueError, LookupError, TypeError: it is not what was written."""
    scope, step, times = item["scope"], item["step"], item["times"]
    since, changed_at, until, value = (float(item[name]) for name in ("since", "changed_at", "until", "value"))
    if not isinstance(scope, str) or type(step) is not int or type(times) is not int or min(step, times - 1) < 0:
        raise ValueError(f"no hold: {item}")
    if not all(map(math.isfinite, (since, changed_at, until, value))):
        raise ValueError(f"no times: {item}")
    # The clock may have been set back meanwhile, and the rule may have other steps now.
    longest = max(LONGEST_HOLD * rule.hold_s, rule.step_s)
    return (rule.name, scope), Holding(
        since=min(since, now),
        changed_at=min(changed_at, now),
        until=min(until, now + longest),
        value=value,
        step=min(step, len(steps_of(rule)) - 1),
        times=times,
    )
