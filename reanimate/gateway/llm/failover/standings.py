"""How every target is, for the control port: what the watch and the runbooks look at."""

from typing import Any

from reanimate.gateway.llm.failover.health import Health, Line

__all__ = ["standings"]


def standings(health: Health) -> dict[str, dict[str, Any]]:
    """Return, for each target, the standing of the best of its keys, and why it is not well."""
    lines: dict[str, list[Line]] = {}
    for line in health.lines():
        lines.setdefault(line.target.name, []).append(line)
    return {name: _of(found) for name, found in lines.items()}


def _of(lines: list[Line]) -> dict[str, Any]:
    best = min(lines, key=lambda line: line.breaker.standing)
    shown: dict[str, Any] = {"standing": best.breaker.standing.name.lower()}
    if best.why is not None:
        shown |= {"why": best.why.kind, "detail": best.why.detail[:300]}
    if len(lines) > 1:
        shown["keys"] = {line.key.name if line.key else "": line.breaker.standing.name.lower() for line in lines}
    return shown
