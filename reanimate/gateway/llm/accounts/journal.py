"""A line of JSON in the log for calls that ended badly, and for a sample of the others."""

import random
import sys
from collections.abc import Callable
from typing import Any

import orjson
import structlog

from reanimate.gateway.llm.call import Call, Ending

__all__ = ["Journal"]

_BAD_PER_SECOND = 20
_GOOD_PER_SECOND = 2
_GOOD_SHARE = 0.01
_BODY_LIMIT = 20_000


def _dumps(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()


class _Limit:
    """So many lines in a second; how many were left out is told with the next one."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._count = 0
        self.left_out = 0

    def allows(self, second: int) -> bool:
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > self._per_second:
            self.left_out += 1
            return False
        return True


class Journal:
    """Prompts and answers are in it only where `llm.log_bodies` says so; keys never are."""

    def __init__(self, clock: Callable[[], float], bodies: bool, stream: Any = None) -> None:
        self._clock = clock
        self.bodies = bodies
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(stream or sys.stderr),
            wrapper_class=structlog.BoundLogger,
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
        )
        self._bad, self._good, self._spared = (
            _Limit(_BAD_PER_SECOND),
            _Limit(_GOOD_PER_SECOND),
            _Limit(_GOOD_PER_SECOND),
        )

    def wants(self, call: Call) -> bool:
        """Say whether a line is written about a call that has ended."""
        if call.ending is Ending.ANSWERED or call.ending is Ending.ABANDONED:
            return random.random() < _GOOD_SHARE and self._good.allows(int(self._clock()))
        return (self._spared if _was_spared(call) else self._bad).allows(int(self._clock()))

    def write(self, call: Call, record: dict[str, Any]) -> None:
        """Write the line."""
        level = {Ending.FAILED: "error", Ending.DEGRADED: "warning", Ending.REJECTED: "warning"}
        more: dict[str, Any] = {}
        if left_out := self._bad.left_out + self._spared.left_out:
            more["left_out"] = left_out
            self._bad.left_out = self._spared.left_out = 0
        if self.bodies:
            more["prompt"] = call.prompt.raw[:_BODY_LIMIT].decode("utf-8", "replace")
            if call.heard:
                more["answer"] = b"".join(call.heard)[:_BODY_LIMIT].decode("utf-8", "replace")
        self._log.msg("llm call", level=level.get(call.ending or Ending.ABANDONED, "info"), **record, **more)


def _was_spared(call: Call) -> bool:
    """Say whether the first who was asked answered, only not the first choice: in an outage that is every call."""
    attempts = call.attempts
    return call.ending is Ending.DEGRADED and call.error is None and len(attempts) == 1 and attempts[0].failure is None
