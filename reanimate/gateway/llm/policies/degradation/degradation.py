"""The rules at work: judged once a second, their holds placed, and told when they begin and end."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from reanimate.gateway.llm.policies.degradation.kept import KeptHolds, outline
from reanimate.gateway.llm.policies.degradation.rules import Holding, State, claims_of, judge, steps_of
from reanimate.gateway.llm.policies.degradation.signals import Signals
from reanimate.gateway.llm.policies.switches import LlmSwitches
from reanimate.llm_policies import SIGNALS, RuleSettings, rules_in_force
from reanimate.llm_settings import LlmSettings

__all__ = ["Degradation"]

log = logging.getLogger("reanimate.gateway")

_EVERY_S = 1.0


class Degradation:
    """What holds by the gateway's own rules."""

    def __init__(
        self,
        settings: LlmSettings,
        switches: LlmSwitches,
        look: Callable[[], Signals],
        clock: Callable[[], float] = time.time,
        kept: KeptHolds | None = None,
    ) -> None:
        """`look` reads the figures as they are now. What is `kept` holds from the beginning, before the first call."""
        self._switches = switches
        self._look = look
        self._clock = clock
        self._state: State = {}
        self._rules: tuple[RuleSettings, ...] = ()
        self._static: dict[str, bool] = {}
        self._kept = kept
        self.take(settings)
        if kept is not None:
            self._state = kept.read(self._rules, clock())
            self._tell({}, "still holds")
            self._switches.hold(claims_of(self._rules, self._state, self._can_be_static))
        self._written = outline(self._state)

    def take(self, settings: LlmSettings) -> None:
        """Go on with changed settings; rules that are off now let go at once."""
        self._rules = rules_in_force(settings.rules)
        self._static = {route.name: route.static_answer is not None for route in settings.routes}

    async def watch(self) -> None:
        """Judge again and again, until cancelled. What goes wrong in it changes nothing and is told."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                self.turn()
            except Exception:
                log.exception("the degradation rules could not be judged; what they hold stays")
            if self._kept is not None and (now := outline(self._state)) != self._written:
                self._written = now
                await asyncio.to_thread(self._kept.write, self._state)

    def turn(self) -> None:
        """Judge once, and place and lift what comes of it."""
        signals = self._look()
        scopes = {rule.name: signals.scopes(rule) for rule in self._rules}
        before = self._state
        self._state = judge(self._rules, scopes, signals.read, self._clock(), before)
        if self._state != before:
            self._tell(before)
        self._switches.hold(claims_of(self._rules, self._state, self._can_be_static))

    def _can_be_static(self, scope: str) -> bool:
        return self._static.get(scope, all(self._static.values()) and bool(self._static))

    def _tell(self, before: State, holds: str = "holds") -> None:
        rules = {rule.name: rule for rule in self._rules}
        for key in before.keys() | self._state.keys():
            name, scope = key
            was, now = before.get(key), self._state.get(key)
            if now is None:
                log.warning("rule %s lets go of %s", name, scope)
            elif was is None or was.step != now.step:
                said = ", ".join(f"{switch} = {value}" for switch, value in steps_of(rules[name])[now.step])
                signal = rules[name].signal
                log.warning("rule %s %s %s: %s (%s was %.4g)", name, holds, scope, said, signal, now.value)

    def shown(self) -> list[dict[str, Any]]:
        """Return each rule, and where it holds, for the control port."""
        return [
            {
                "name": rule.name,
                "signal": rule.signal,
                "means": SIGNALS[rule.signal],
                "above": rule.above,
                "clear_below": rule.clear_below,
                "holds": [
                    _shown(rule, scope, held) for (name, scope), held in self._state.items() if name == rule.name
                ],
            }
            for rule in self._rules
        ]


def _shown(rule: RuleSettings, scope: str, holding: Holding) -> Mapping[str, Any]:
    steps = steps_of(rule)
    return {
        "scope": scope,
        "since": datetime.fromtimestamp(holding.since, UTC).isoformat(),
        "worst": holding.value,
        "step": holding.step + 1,
        "steps": len(steps),
        "next_step_from": datetime.fromtimestamp(holding.until, UTC).isoformat(),
        "times": holding.times,
    }
