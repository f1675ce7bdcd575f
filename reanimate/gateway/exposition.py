"""Prometheus' text format."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

__all__ = ["family", "histogram", "text"]

Samples = Iterable[tuple[dict[str, str], float]]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def family(name: str, kind: str, words: str, samples: Samples) -> list[str]:
    """Return the lines of one metric, called `reanimate_gateway_{name}`."""
    name = f"reanimate_gateway_{name}"
    lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
    lines.extend(_sample(name, labels, value) for labels, value in samples)
    return lines


def histogram(
    name: str, words: str, bounds: Sequence[float], samples: Iterable[tuple[dict[str, str], Sequence[int], float]]
) -> list[str]:
    """Return the lines of one histogram, called `name`. A sample is labels, counts (one more than bounds) and a sum."""
    lines = [f"# HELP {name} {words}", f"# TYPE {name} histogram"]
    for labels, counts, total in samples:
        for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], accumulate(counts), strict=True):
            lines.append(_sample(f"{name}_bucket", {**labels, "le": bound}, count))
        lines.append(_sample(f"{name}_sum", labels, total))
        lines.append(_sample(f"{name}_count", labels, sum(counts)))
    return lines


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_label(said)}"' for key, said in labels.items())
    said = str(int(value)) if value == int(value) else repr(float(value))
    return f"{name}{{{inside}}} {said}" if inside else f"{name} {said}"


def text(families: Iterable[list[str]]) -> str:
    """Return several metrics as one text."""
    return "\n".join(line for lines in families for line in lines) + "\n"
