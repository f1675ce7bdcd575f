"""How the processes of one gateway tell each other how a provider is."""

import time
from collections.abc import Mapping
from typing import Any

from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.health import Health, Line
from reanimate.gateway.llm.failures import Failure, Help

__all__ = ["follow", "line_of", "said_of", "take_report"]


def said_of(line: Line) -> dict[str, Any]:
    """Return how a line is, as a message."""
    breaker, why = line.breaker, line.why
    return {
        "say": "line",
        "target": line.target.name,
        "key": _key_of(line),
        "standing": int(breaker.standing),
        "step": breaker.step,
        "pause_s": max(breaker.probe_at - time.monotonic(), 0.0),
        "why": None if why is None else [why.kind, why.help.value, why.detail, why.retry_after_s],
    }


def line_of(health: Health, message: Mapping[str, Any]) -> Line | None:
    """Return the line that a message is about; None when the settings of this process do not have it."""
    for line in health.lines():
        if line.target.name == message["target"] and _key_of(line) == message["key"]:
            return line
    return None


def _key_of(line: Line) -> str | None:
    return line.key.name if line.key is not None else None


def follow(health: Health, line: Line, message: Mapping[str, Any]) -> None:
    """Take over how the first process says that a line is."""
    why = None
    if message["why"] is not None:
        kind, help_, detail, retry_after_s = message["why"]
        why = Failure(kind, Help(help_), detail, retry_after_s=retry_after_s)
    now = time.monotonic()
    health.follow(line, Standing(message["standing"]), message["step"], why, now, now + message["pause_s"])


def take_report(health: Health, line: Line, message: Mapping[str, Any]) -> bool:
    """Take account of how another process says that a line is; False when what is known here stands against it.

    Bad news is believed. That something is well again is believed of what was only suspected, or is coming back: what
    is open is opened by probes only, and those are made here.
    """
    reported, here = Standing(message["standing"]), line.breaker.standing
    if reported is here or reported is Standing.RAMPING:
        return True
    believed = reported is Standing.OPEN or (
        here is not Standing.OPEN if reported is Standing.CLOSED else here is Standing.CLOSED
    )
    if believed:
        follow(health, line, message)
    return believed
