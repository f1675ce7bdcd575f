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
        self._bad, self._good = _Limit(_BAD_PER_SECOND), _Limit(_GOOD_PER_SECOND)

    def wants(self, call: Call) -> bool:
        """Say whether a line is written about a call that has ended."""
        bad = call.ending is not Ending.ANSWERED and call.ending is not Ending.ABANDONED
        if not bad and random.random() >= _GOOD_SHARE:
            return False
        return (self._bad if bad else self._good).allows(int(self._clock()))

    def write(self, call: Call, record: dict[str, Any]) -> None:
        """Write the line."""
        level = {Ending.FAILED: "error", Ending.DEGRADED: "warning", Ending.REJECTED: "warning"}
        more: dict[str, Any] = {}
        if self._bad.left_out:
            more["left_out"], self._bad.left_out = self._bad.left_out, 0
        if self.bodies:
            more["prompt"] = call.prompt.raw[:_BODY_LIMIT].decode("utf-8", "replace")
            if call.heard:
                more["answer"] = b"".join(call.heard)[:_BODY_LIMIT].decode("utf-8", "replace")
        self._log.msg("llm call", level=level.get(call.ending or Ending.ABANDONED, "info"), **record, **more)
