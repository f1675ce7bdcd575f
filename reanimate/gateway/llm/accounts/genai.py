"""The histograms of OpenTelemetry's semantic conventions for generative AI, since the start.

`gen_ai.client.*` are about what the gateway asked providers, by target; `gen_ai.server.*` about what it answered, by
route. In Prometheus' names, as OpenTelemetry's own exporter writes them.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from reanimate.gateway.exposition import histogram
from reanimate.gateway.llm.call import Attempt, Call, Ending
from reanimate.gateway.llm.endpoints import Shape

__all__ = ["GenAi", "operation_of"]

_DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_EACH = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**power) for power in range(14))

_FAMILIES: dict[str, tuple[str, tuple[float, ...], str]] = {
    "client_duration": (
        "gen_ai_client_operation_duration_seconds", _DURATIONS, "How long a provider took for a whole answer."),
    "client_first": (
        "gen_ai_client_operation_time_to_first_chunk_seconds", _FIRST, "How long a provider took for the first token."),
    "client_tokens": ("gen_ai_client_token_usage", _TOKENS, "Tokens of an attempt, as its provider counted them."),
    "server_duration": (
        "gen_ai_server_request_duration_seconds", _DURATIONS, "How long a caller waited for the whole answer."),
    "server_first": (
        "gen_ai_server_time_to_first_token_seconds", _FIRST, "How long a caller of a stream waited for a token."),
    "server_each": (
        "gen_ai_server_time_per_output_token_seconds", _EACH, "Time for each token of a stream after the first."),
}  # fmt: skip

Labels = tuple[tuple[str, str], ...]


class _Histogram:
    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


def operation_of(shape: Shape) -> str:
    """Return the name of the operation."""
    return "embeddings" if shape is Shape.EMBEDDINGS else "count_tokens" if shape is Shape.COUNT_TOKENS else "chat"


class GenAi:
    """One histogram for each name and labels."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, ...], _Histogram]] = {family: {} for family in _FAMILIES}

    def _add(self, family: str, key: tuple[str, ...], value: float) -> None:
        known = self._found[family]
        if (found := known.get(key)) is None:
            found = known[key] = _Histogram(_FAMILIES[family][1])
        found.add(value)

    def ended(self, call: Call, now: float) -> None:
        """Count a call that has ended `now`, of the loop's clock."""
        operation = operation_of(call.prompt.endpoint.shape)
        first = None
        for attempt in call.attempts:
            self._attempt(attempt, operation)
            if attempt.served and first is None:
                first = attempt.first_token_at
        if call.ending is Ending.ABANDONED:
            return
        error = call.error.kind if call.error is not None and call.ending is not Ending.DEGRADED else ""
        key = (operation, call.route.name, error)
        self._add("server_duration", key, now - call.began)
        if first is not None and call.prompt.stream and not error:
            self._add("server_first", key, first - call.began)
            if call.usage.output_tokens > 1:
                self._add("server_each", key, (now - first) / (call.usage.output_tokens - 1))

    def _attempt(self, attempt: Attempt, operation: str) -> None:
        provider = attempt.target.provider
        place = (operation, provider.wire, provider.name, attempt.target.model)
        key = (*place, attempt.failure.kind if attempt.failure is not None else "")
        if attempt.ended is not None and not attempt.lost_race:
            self._add("client_duration", key, attempt.ended - attempt.began)
        if attempt.first_token_at is not None and not attempt.lost_race:
            self._add("client_first", key, attempt.first_token_at - attempt.began)
        if attempt.usage is not None:
            self._add("client_tokens", (*place, "input"), attempt.usage.input_tokens)
            self._add("client_tokens", (*place, "output"), attempt.usage.output_tokens)

    def drain(self) -> list[Any]:
        """Return what was counted since the last time, for another process to `absorb`, and forget it."""
        drained = [
            [family, [*key], found.counts, found.sum]
            for family, known in self._found.items()
            for key, found in known.items()
        ]
        self._found = {family: {} for family in _FAMILIES}
        return drained

    def absorb(self, drained: list[Any]) -> None:
        """Add what another process counted."""
        for family, key, counts, total in drained:
            found = self._found[family].setdefault(tuple(key), _Histogram(_FAMILIES[family][1]))
            found.counts = [one + other for one, other in zip(found.counts, counts, strict=True)]
            found.sum += total

    def families(self) -> Iterator[list[str]]:
        """Yield the lines of each metric in Prometheus' text format."""
        for family, (name, bounds, words) in _FAMILIES.items():
            samples = [
                (_labels(family, key), found.counts, found.sum) for key, found in sorted(self._found[family].items())
            ]
            yield histogram(name, words, bounds, samples)


def _labels(family: str, key: tuple[str, ...]) -> dict[str, str]:
    if family.startswith("server"):
        labels = {"gen_ai_operation_name": key[0], "gen_ai_provider_name": "reanimate", "gen_ai_request_model": key[1]}
        last = "error_type"
    else:
        labels = {
            "gen_ai_operation_name": key[0],
            "gen_ai_provider_name": key[1],
            "provider": key[2],
            "gen_ai_request_model": key[3],
        }
        last = "gen_ai_token_type" if family == "client_tokens" else "error_type"
    return labels | ({last: key[-1]} if key[-1] else {})
