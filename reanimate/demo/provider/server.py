"""A provider: two ports (one for callers, one that always answers the administration), its faults and its calls."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Self
from zlib import crc32

from reanimate.demo.provider.admin import administer
from reanimate.demo.provider.answering import Prepared, key_of, prepare
from reanimate.demo.provider.behaviour import Behaviour
from reanimate.demo.provider.calls import Call
from reanimate.demo.provider.connection import Connection, Incoming
from reanimate.demo.provider.doors import Door, State
from reanimate.demo.provider.faults import Armed, Fault
from reanimate.demo.provider.plan import Plan, plan_of
from reanimate.demo.provider.script import ID, MARK

__all__ = ["Provider"]

_KEPT_CALLS = 100_000
_KEPT_ANSWERS = 2_000


class Provider:
    """One stand-in for a provider: `async with Provider("main") as provider`.

    `fail`, `heal`, `reset`, and assigning `behaviour` work at once. `record=False` keeps no calls, only `total`.
    """

    def __init__(
        self, name: str = "main", *, host: str = "127.0.0.1", port: int = 0, behaviour: Behaviour | None = None,
        record: bool = True,
    ) -> None:  # fmt: skip
        self.name = name
        self.calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        self.total = 0
        """How many calls there were since the start."""
        self._host, self._port = host, port
        self._record = record
        self._default = behaviour or Behaviour()
        self._behaviour = self._default
        self._armed: list[Armed] = []
        self._prepared: dict[tuple[bytes, bytes, bytes, str], tuple[Prepared, bytes]] = {}
        self._connections: set[Connection] = set()
        self._idents = 0
        self._stamp = b"%08x" % crc32(name.encode())
        self._door: Door
        self._office: Door
        self._clock: Callable[[], float]

    async def __aenter__(self) -> Self:
        """Open both ports.

        Raises:
            ConfigInvalid: the port is taken.
        """
        self._clock = asyncio.get_running_loop().time
        self._door = Door(self._host, self._port, lambda: Connection(self, self._clock))
        self._office = Door(self._host, 0, lambda: Connection(_Office(self), self._clock))
        for door in (self._door, self._office):
            door.turn("open")
            await door.opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._door.close()
        self._office.close()
        for connection in list(self._connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        """The base URL, without `/v1`: Anthropic's clients take it as it is."""
        return self._door.url

    @property
    def openai_url(self) -> str:
        """The base URL as OpenAI's clients take it."""
        return f"{self._door.url}/v1"

    @property
    def admin_url(self) -> str:
        """Where the administration answers even when connections are refused."""
        return self._office.url

    @property
    def behaviour(self) -> Behaviour:
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._prepared.clear()

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(armed.fault for armed in self._armed)

    def fail(self, *faults: Fault) -> None:
        """From now on these faults are set, and no others; their clocks and counts begin now."""
        now = self._clock()
        self._armed = [Armed(fault, now) for fault in faults]
        state: State = "open"
        for fault in reversed(faults):
            if fault.kind == "refuse" or fault.kind == "unaccepted":
                state = fault.kind
        self._door.turn(state)
        for fault in faults:
            if fault.running:
                for connection in list(self._connections):
                    connection.hit(fault)
        if state != "open":
            for connection in list(self._connections):
                connection.kill()

    def heal(self) -> None:
        """Nothing is wrong any more; calls that hang or are stalled stay so."""
        self.fail()

    def reset(self) -> None:
        """Be as new: no faults, no calls, the behaviour of the start."""
        self.heal()
        self.calls.clear()
        self.total = 0
        self.behaviour = self._default

    async def ended(self, within_s: float = 5.0) -> None:
        """Wait until no call is underway."""
        deadline = self._clock() + within_s
        while left := [call for call in self.calls if not call.ended]:
            if self._clock() > deadline:
                raise TimeoutError(f"{self.name}: {len(left)} calls are underway: {left[0]}")
            await asyncio.sleep(0.005)

    # What a connection asks of its desk.

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def ident(self) -> bytes:
        """Return an id that neither this provider nor one of another name has given before."""
        self._idents += 1
        return self._stamp + b"%016x" % self._idents

    def answer(self, request: Incoming) -> tuple[Call | None, bytes | Plan]:
        """Return what a request gets."""
        if request.url.startswith(b"/_"):
            path = request.url.decode("latin-1").partition("?")[0]
            return None, administer(self, request.method.decode(), path, request.body)
        key = _key(request.headers)
        prepared, ready = self._prepare(request, key)
        self.total += 1
        stream = prepared.script is not None
        behaviour = self._behaviour
        at_once = not behaviour.think_ms and not (stream and behaviour.token_ms)
        if at_once and not self._armed and not self._record:
            return None, ready.replace(MARK, self.ident())
        now = self._clock()
        path = request.url.decode("latin-1").partition("?")[0]
        call = Call(
            self.total, time.time(), now, request.method.decode(), path, key, prepared.model, stream,
            request.headers, request.body,
        )  # fmt: skip
        if self._record:
            self.calls.append(call)
        hits = [armed.fault for armed in self._armed if armed.due(*call.traits, now)]
        if at_once and not hits:
            call.status, call.tokens = prepared.status, prepared.tokens
            return call, ready.replace(MARK, self.ident())
        call.faults = tuple(fault.kind for fault in hits)
        think_s, token_s = behaviour.think_ms / 1e3, behaviour.token_ms / 1e3
        return call, plan_of(prepared, path, hits, think_s, token_s, self._headers(path))

    def _headers(self, path: str) -> tuple[tuple[str, str], ...]:
        name = "request-id" if path.startswith("/v1/messages") else "x-request-id"
        return ((name, f"req_{ID}"), ("x-stand-in", self.name))

    def _prepare(self, request: Incoming, key: str) -> tuple[Prepared, bytes]:
        """Return an answer, and all its bytes when nothing is wrong; made once for the same request."""
        known = (request.method, request.url, request.body, key)
        found = self._prepared.get(known)
        if found is None:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
            path = request.url.decode("latin-1").partition("?")[0]
            prepared = prepare(request.method.decode(), path, headers, request.body, self._behaviour)
            plan = plan_of(prepared, path, (), 0.0, 0.0, self._headers(path))
            found = prepared, b"".join(step.data for step in plan.steps)
            if len(self._prepared) >= _KEPT_ANSWERS:
                self._prepared.clear()
            if request.method == b"POST":
                self._prepared[known] = found
        return found


class _Office:
    """The desk behind the administration's own port: its connections are nobody's to reset."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def ident(self) -> bytes:
        return b""

    def answer(self, request: Incoming) -> tuple[Call | None, bytes | Plan]:
        path = request.url.decode("latin-1").partition("?")[0]
        return None, administer(self._provider, request.method.decode(), path, request.body)


def _key(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the key of a request without looking at more headers than needed."""
    for name, value in headers:
        if len(name) == 13 and name.lower() == b"authorization":
            return key_of({"authorization": value.decode("latin-1")})
        if len(name) == 9 and name.lower() == b"x-api-key":
            return value.decode("latin-1")
    return ""
