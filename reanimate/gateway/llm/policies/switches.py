"""What the switches say to the LLM plane: those of the control plane, and the holds of the gateway's own rules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reanimate.switches.document import Claim, effective

__all__ = ["LlmSwitches"]

Listener = Callable[[Sequence[Claim]], None]


class LlmSwitches:
    """Brings both together, the most careful claim on each switch and scope, and tells modes and gate."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners
        self._told: tuple[Claim, ...] = ()
        self.own: dict[str, tuple[Claim, ...]] = {}
        """Cause (a rule) → what it claims."""
        self.on_hold: list[Callable[[Mapping[str, tuple[Claim, ...]]], None]] = []
        """Who is told when that changes."""
        self.claims: tuple[Claim, ...] = ()
        """What holds now."""

    def obey(self, claims: tuple[Claim, ...]) -> None:
        """Take over what the control plane says; the holds of the gateway's own rules stay."""
        self._told = tuple(claim for claim in claims if claim.switch.startswith("llm_"))
        self._tell()

    def hold(self, own: Mapping[str, Sequence[Claim]]) -> None:
        """Take over what the gateway's own rules claim, by cause; none of them clears what another one claims."""
        held = {cause: tuple(claims) for cause, claims in own.items() if claims}
        if held != self.own:
            self.own = held
            self._tell()
            for listener in self.on_hold:
                listener(held)

    def _tell(self) -> None:
        found = effective([*self._told, *(claim for claims in self.own.values() for claim in claims)])
        self.claims = tuple(found)
        for listener in self._listeners:
            listener(self.claims)

    def shown(self) -> dict[str, Any]:
        """Return what holds and what of it is the gateway's own doing, for the control port."""
        return {
            "held": [{"switch": c.switch, "scope": c.scope, "value": c.value} for c in self.claims],
            "by_rules": {
                cause: [{"switch": c.switch, "scope": c.scope, "value": c.value} for c in claims]
                for cause, claims in self.own.items()
            },
        }
