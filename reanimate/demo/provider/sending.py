"""Carries a plan out on a connection, step by step, by the loop's clock."""

import asyncio
import socket
import struct
from collections.abc import Callable

from reanimate.demo.provider.calls import Call
from reanimate.demo.provider.plan import Plan
from reanimate.demo.provider.script import MARK

__all__ = ["Sending", "reset"]

_ARRIVE_S = 0.003
"""Time for the bytes that were written to be read by the other side, before a reset throws them away."""
_FOREVER = float("inf")


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Sending:
    """One answer underway."""

    __slots__ = ("_at", "_done", "_id", "_loop", "_plan", "_timer", "_transport", "call")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, call: Call, plan: Plan, ident: bytes,
        done: Callable[["Sending"], None],
    ) -> None:  # fmt: skip
        self.call = call
        self._loop = loop
        self._transport = transport
        self._plan = plan
        self._id = ident
        self._done = done
        self._at = 0
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Write all steps that are due, then wait for the next one."""
        self._timer = None
        steps = self._plan.steps
        parts: list[bytes] = []
        while self._at < len(steps):
            step = steps[self._at]
            if step.wait_s:
                wait, step.wait_s = step.wait_s, 0.0
                self._write(parts)
                if wait != _FOREVER:
                    self._timer = self._loop.call_later(wait, self.run)
                return
            parts.append(step.data)
            self.call.tokens += step.token
            self._at += 1
        self._write(parts)
        match self._plan.ending:
            case "answered":
                self._done(self)
            case "fin":
                self._end("fin")
                self._transport.close()
            case "rst":
                self._timer = self._loop.call_later(_ARRIVE_S, self._reset)

    def _write(self, parts: list[bytes]) -> None:
        if data := b"".join(parts):
            self.call.status = self._plan.status
            self._transport.write(data.replace(MARK, self._id))

    def _reset(self) -> None:
        self._end("rst")
        reset(self._transport)

    def _end(self, how: str) -> None:
        self.call.end(how, self._loop.time())

    def hit(self, kind: str) -> None:
        """Have it end now as a fault of this kind would have it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.call.faults += (kind,)
        if kind == "reset":
            self._reset()
        elif kind == "close":
            self._end("fin")
            self._transport.close()

    def cancel(self, how: str) -> None:
        """Stop: the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end(how)
