"""What the courses of all calls share: the providers' health, the connections, budgets, and who waits for what news."""

import asyncio
from collections.abc import Callable

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Route, Target
from reanimate.gateway.llm.failover.agenda import Agenda
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.budget import HedgeBudget
from reanimate.gateway.llm.failover.health import Change, Health, Line
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.wire.answers import Answer

__all__ = ["Shared", "Translate"]

Translate = Callable[[Call, Target, Answer], bytes]
Suspected = Callable[[Line], None]
Wake = Callable[[], None]


class Shared:
    """One for all calls of a process."""

    def __init__(self, health: Health, pools: Pools, translate: Translate | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.health = health
        self.agenda = Agenda(self.loop, health.time)
        self.pools = pools
        self.translate = translate
        self._hedges: dict[str, tuple[float, HedgeBudget]] = {}
        self._waiting: dict[Line, set[Suspected]] = {}
        """Of calls that are late and may not be asked twice, as long as the provider is not suspected."""
        self._watching: set[Wake] = set()
        """Of calls for which everybody is out, until a probe says otherwise."""
        health.on_change.append(self._changed)
        health.on_verdict.append(self._verdict)

    def hedges(self, route: Route) -> HedgeBudget:
        """Return the budget of a route for asking twice."""
        share = route.settings.hedge_share
        found = self._hedges.get(route.name)
        if found is None or found[0] != share:
            found = self._hedges[route.name] = (share, HedgeBudget(share))
        return found[1]

    def wait_for(self, line: Line, suspected: Suspected) -> None:
        """Call `suspected` when the line is under suspicion."""
        self._waiting.setdefault(line, set()).add(suspected)

    def waits_no_more(self, line: Line, suspected: Suspected) -> None:
        """Forget what `wait_for` was told."""
        if (waiting := self._waiting.get(line)) is not None:
            waiting.discard(suspected)
            if not waiting:
                del self._waiting[line]

    def watch(self, wake: Wake) -> None:
        """Call `wake` whenever a probe has told something."""
        self._watching.add(wake)

    def watch_no_more(self, wake: Wake) -> None:
        """Forget what `watch` was told."""
        self._watching.discard(wake)

    def _verdict(self) -> None:
        for wake in tuple(self._watching):
            wake()

    def _changed(self, change: Change) -> None:
        if change.now is not Standing.CLOSED and (waiting := self._waiting.pop(change.line, None)):
            for suspected in waiting:
                suspected(change.line)
