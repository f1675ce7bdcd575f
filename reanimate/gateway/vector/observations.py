"""Telling the watch at once that a vector target failed."""

from reanimate.gateway.observations import Sender
from reanimate.gateway.vector.breaker import Trouble

__all__ = ["Observations"]

_KINDS = {
    Trouble.REFUSED: "refused",
    Trouble.RESET: "refused",
    Trouble.CUT: "refused",
    Trouble.TIMEOUT: "timeout",
    Trouble.HTTP: "http",
    Trouble.MISSING: "missing",
}


class Observations(Sender):
    """What the watch looks at itself as soon as it is told."""

    def tell(self, target: str, trouble: Trouble, collection: str | None, detail: str) -> None:
        """Send one observation aside."""
        body: dict[str, str | None] = {"detail": detail}
        if collection is not None:
            body["collection"] = collection
        self.send(target, _KINDS[trouble], body)
