"""Telling the watch at once how an LLM provider fails, and that it is back."""

from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.health import Change, Health, Line
from reanimate.gateway.llm.failures import Failure
from reanimate.gateway.observations import Sender

__all__ = ["LlmObservations"]


class LlmObservations(Sender):
    """Listens to the health of the providers. `kind` is the failure's (failures.py), or `recovered`."""

    def listen(self, health: Health, *, changes: bool = True) -> None:
        """Tell what happens there from now on; of several processes only the first tells of changes."""
        health.on_failure.append(self._failed)
        if changes:
            health.on_change.append(self._changed)

    def _failed(self, line: Line, failure: Failure) -> None:
        self._tell(line, failure.kind, failure.detail)

    def _changed(self, change: Change) -> None:
        if change.now is Standing.CLOSED:
            self._tell(change.line, "recovered", "")
        elif change.why is not None:
            self._tell(change.line, change.why.kind, change.why.detail)

    def _tell(self, line: Line, kind: str, detail: str) -> None:
        body = {
            "plane": "llm",
            "provider": line.target.provider.name,
            "key": line.key.name if line.key is not None else None,
            "standing": line.breaker.standing.name.lower(),
            "detail": detail,
        }
        self.send(line.target.name, kind, body)
