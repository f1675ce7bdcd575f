"""The figures as Prometheus text."""

from typing import Any

from reanimate.gateway.exposition import family, text

__all__ = ["render"]


def render(status: dict[str, Any]) -> str:
    """Return the text for `status`, the figures since the start as the control port gives them."""
    reads, writes, targets = status["reads"], status["writes"], status["targets"]
    of_reads = ("answered", "degraded", "failed", "abandoned")
    of_writes = ("acknowledged", "rejected", "refused", "failed", "abandoned")
    families = [
        family(
            "reads_total", "counter", "Reads by how they ended; degraded: also answered.",
            [({"outcome": key}, reads[key]) for key in of_reads],
        ),
        family(
            "writes_total", "counter", "Writes by how they ended.",
            [({"outcome": key}, writes[key]) for key in of_writes],
        ),
        family(
            "target_requests_total", "counter", "Requests sent to each target.",
            [({"target": name}, target["requests"]) for name, target in targets.items()],
        ),
        family(
            "target_failures_total", "counter", "Requests that each target failed.",
            [({"target": name}, target["failures"]) for name, target in targets.items()],
        ),
        family(
            "target_up", "gauge", "Whether each target is asked.",
            [({"target": name}, target["state"] == "up") for name, target in targets.items()],
        ),
        family(
            "writes_acknowledged_total", "counter", "Writes acknowledged, kept over restarts.",
            [({"collection": name}, count) for name, count in status["totals"]["writes_acknowledged"].items()],
        ),
    ]  # fmt: skip
    return text(families)
