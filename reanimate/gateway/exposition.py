"""Prometheus' text format."""

from collections.abc import Iterable

__all__ = ["family", "text"]

Samples = Iterable[tuple[dict[str, str], float]]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def family(name: str, kind: str, words: str, samples: Samples) -> list[str]:
    """Return the lines of one metric, called `reanimate_gateway_{name}`."""
    name = f"reanimate_gateway_{name}"
    lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_label(said)}"' for key, said in labels.items())
        lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")
    return lines


def text(families: Iterable[list[str]]) -> str:
    """Return several metrics as one text."""
    return "\n".join(line for lines in families for line in lines) + "\n"
