"""What the switches say to the vector plane: whose share of the reads is bounded, and whose writes are held."""

from reanimate.gateway.vector.shares import Plan
from reanimate.switches.document import Claim

__all__ = ["VectorSwitches"]

_PLANS_KEPT = 10_000


class VectorSwitches:
    """Asked on every request, so plans are worked out once for each name and document."""

    def __init__(self, targets: tuple[str, ...]) -> None:
        self._targets = targets
        self._shares: dict[str, int] = {}
        self._holds: frozenset[str] = frozenset()
        self._plans: dict[str | None, Plan] = {}

    def obey(self, claims: tuple[Claim, ...]) -> None:
        """Take over what holds from now on."""
        self._shares = {c.scope: max(0, min(100, int(c.value))) for c in claims if c.switch == "read_share"}
        self._holds = frozenset(c.scope for c in claims if c.switch == "writes" and c.value == "hold")
        self._plans = {}

    def plan(self, name: str | None) -> Plan:
        """Return who may answer a read of `name`, and by which share."""
        plan = self._plans.get(name)
        if plan is None:
            plan = Plan.of([(target, self.bound(target, name)) for target in self._targets])
            if len(self._plans) < _PLANS_KEPT:
                self._plans[name] = plan
        return plan

    def holds_writes(self, target: str, name: str | None) -> bool:
        """Say whether writes of `name` to `target` are to be refused."""
        return target in self._holds or (name is not None and f"{target}/{name}" in self._holds)

    def bound(self, target: str, name: str | None) -> int:
        """Return the greatest share of the reads of `name` that a target may get, in percent."""
        bound = self._shares.get(target, 100)
        return bound if name is None else min(bound, self._shares.get(f"{target}/{name}", 100))
