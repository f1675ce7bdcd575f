"""Which provider keeps which response: a call that goes on with one can be answered there only."""

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.endpoints import Shape, endpoint_at
from reanimate.gateway.llm.failover.opened import Opened

__all__ = ["StoredResponses"]

_KEPT = 20_000


class StoredResponses:
    """Remembers the last responses by their ids. One that is not remembered is looked for at each provider in turn."""

    def __init__(self) -> None:
        self._keepers: dict[str, tuple[str, str | None]] = {}

    def bind(self, call: Call) -> None:
        """Bind a call to who keeps what it goes on with."""
        if call.prompt.endpoint.shape is Shape.RESPONSES:
            before = call.prompt.fields.get("previous_response_id")
            if isinstance(before, str):
                call.bound = self._keepers.get(before)

    def note(self, call: Call, opened: Opened) -> None:
        """Remember who has given an answer."""
        if call.prompt.endpoint.shape is not Shape.RESPONSES or call.prompt.fields.get("store") is False:
            return
        if opened.answer is not None:
            given = opened.answer.fields.get("id")
        else:
            given = opened.reader.facts.id if opened.reader is not None else None
        if not isinstance(given, str) or not given:
            return
        if endpoint_at(call.prompt.endpoint, opened.target.provider) is not call.prompt.endpoint:
            given = f"resp_{given}"  # as the caller knows it
        if len(self._keepers) >= _KEPT:
            del self._keepers[next(iter(self._keepers))]
        key = opened.key.name if opened.key is not None else None
        self._keepers[given] = (opened.target.provider.name, key)
