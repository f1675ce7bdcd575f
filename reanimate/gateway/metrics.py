"""The figures as Prometheus text."""

from collections.abc import Iterable
from typing import Any

__all__ = ["render"]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(name: str, kind: str, words: str, samples: Iterable[tuple[dict[str, str], float]]) -> list[str]:
    lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")
    return lines


def render(status: dict[str, Any]) -> str:
    """Return the text for `status`, the figures since the start as the control port gives them."""
    reads, writes, targets = status["reads"], status["writes"], status["targets"]
    of_reads = ("answered", "degraded", "failed", "abandoned")
    of_writes = ("acknowledged", "rejected", "refused", "failed", "abandoned")
    families = [
        _family(
            "reanimate_gateway_reads_total", "counter", "Reads by how they ended; degraded: also answered.",
            [({"outcome": key}, reads[key]) for key in of_reads],
        ),
        _family(
            "reanimate_gateway_writes_total", "counter", "Writes by how they ended.",
            [({"outcome": key}, writes[key]) for key in of_writes],
        ),
        _family(
            "reanimate_gateway_target_requests_total", "counter", "Requests sent to each target.",
            [({"target": name}, target["requests"]) for name, target in targets.items()],
        ),
        _family(
            "reanimate_gateway_target_failures_total", "counter", "Requests that each target failed.",
            [({"target": name}, target["failures"]) for name, target in targets.items()],
        ),
        _family(
            "reanimate_gateway_target_up", "gauge", "Whether each target is asked.",
            [({"target": name}, target["state"] == "up") for name, target in targets.items()],
        ),
        _family(
            "reanimate_gateway_writes_acknowledged_total", "counter", "Writes acknowledged, kept over restarts.",
            [({"collection": name}, count) for name, count in status["totals"]["writes_acknowledged"].items()],
        ),
        _family(
            "reanimate_gateway_switches_seq", "gauge", "The number of the switches obeyed.",
            [({}, status["switches"]["seq"])],
        ),
    ]  # fmt: skip
    if status["stale_s"] is not None:
        words = "Since the control plane was last heard."
        families.append(_family("reanimate_gateway_stale_seconds", "gauge", words, [({}, status["stale_s"])]))
    return "\n".join(line for family in families for line in family) + "\n"
