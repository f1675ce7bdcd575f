"""The policies of the LLM plane put together: switches, modes, gate and the rules that degrade by themselves."""

from collections.abc import Callable, Coroutine
from typing import Any

from reanimate.gateway.llm.policies.degradation.degradation import Degradation
from reanimate.gateway.llm.policies.degradation.kept import KeptHolds
from reanimate.gateway.llm.policies.degradation.signals import Counts, Signals
from reanimate.gateway.llm.policies.gate import Gate
from reanimate.gateway.llm.policies.modes import Modes
from reanimate.gateway.llm.policies.places import Places
from reanimate.gateway.llm.policies.switches import LlmSwitches
from reanimate.gateway.llm.underway import Underway
from reanimate.llm_settings import LlmSettings

__all__ = ["Policies"]


class Policies:
    """Made once for a process; `switches.obey` listens to the switchboard."""

    def __init__(
        self,
        settings: LlmSettings,
        underway: Underway,
        *,
        window: Callable[[float], Counts],
        quota_used: Callable[[], dict[str, float] | None],
        processes: int = 1,
        kept: KeptHolds | None = None,
        places: Places | None = None,
    ) -> None:
        """`window` counts the calls of the last so many seconds; `quota_used` is the share that each scope used.

        `kept`: what the rules held when the gateway ended, and where that is written; of the process that judges them.
        `places`: of several processes, what they share.
        """
        self.modes = Modes()
        self.gate = Gate(
            underway, wait_s=settings.queue_wait_s, waiting=settings.queue_max, processes=processes, places=places
        )
        self.switches = LlmSwitches(self.modes.obey, self.gate.obey)
        self._window = window
        self._quota_used = quota_used
        self.degradation = Degradation(settings, self.switches, self._look, kept=kept)

    def _look(self) -> Signals:
        return Signals(self._window, self._quota_used(), self.gate.queues())

    def take(self, settings: LlmSettings) -> None:
        """Go on with changed settings."""
        self.gate.take(settings.queue_wait_s, settings.queue_max)
        self.degradation.take(settings)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the calls until it is cancelled."""
        return [self.degradation.watch()]

    def status(self) -> dict[str, Any]:
        """Return how far from a good day it is, what is held, and by which rules, for the control port."""
        return {
            "level": self.modes.level,
            **self.switches.shown(),
            "rules": self.degradation.shown(),
            "waiting": self.gate.queues(),
        }
