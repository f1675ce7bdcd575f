"""What the watch shows of itself: one JSON document for people and `doctor`, and one page of figures for Prometheus."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reanimate.clock import utcnow
from reanimate.watch.data_vigil import DataVigil
from reanimate.watch.judge import State, is_flapping
from reanimate.watch.sample import Sample, wall_time
from reanimate.watch.vigil import Vigil
from reanimate.watch.watch import Watch

__all__ = ["figures", "status"]

Json = dict[str, Any]

UP = {State.UP: 1.0, State.DOWN: 0.0, State.UNKNOWN: float("nan")}


def status(watch: Watch) -> Json:
    """Describe everything watched, as it is believed to be now."""
    return {
        "now": utcnow().isoformat(),
        "blind": watch.blindness.as_json(),
        "stalls": watch.stalls,
        "outbox": {"waiting": len(watch.outbox), "delivered": watch.outbox.delivered, "error": watch.outbox.last_error},
        "dependencies": [dependency_status(watch, vigil) for vigil in watch.vigils.values()],
        **({"llm": {"level": watch.llm.level, "error": watch.llm.error}} if watch.llm else {}),
        "firing": [alarm.as_json() for alarm in watch.desk.firing.values()],
    }


def dependency_status(watch: Watch, vigil: Vigil) -> Json:
    now = time.monotonic()
    dependency, standing = vigil.dependency, vigil.standing
    data = watch.data.get(dependency.name) if dependency.role else None
    return {
        "name": dependency.key,
        "kind": dependency.kind,
        "role": dependency.role,
        "url": dependency.shown_url,
        "state": standing.state,
        "since": None if standing.since is None else wall_time(standing.since, now).isoformat(),
        "failing_since": standing.first_failure.at.isoformat() if standing.first_failure else None,
        "flapping": is_flapping(standing, now, dependency.rules),
        "unanswered": len(vigil.outstanding),
        "samples": [sample.as_json() for sample in vigil.samples],
        **({"data": data_status(data)} if data else {}),
    }


def data_status(data: DataVigil) -> list[Json]:
    return [
        {
            "collection": watched.name,
            "backup": watched.manifest.id,
            "state": watched.standing.state,
            "at": watched.outcome.at.isoformat() if watched.outcome else None,
            "error": watched.error,
            "findings": [
                {
                    "check": finding.check,
                    "ok": finding.ok,
                    "expected": finding.expected,
                    "found": finding.found,
                    "detail": finding.detail,
                }
                for finding in (watched.report.findings if watched.report else ())
            ],
        }
        for watched in data.collections.values()
    ]


def figures(watch: Watch) -> CollectorRegistry:
    """Return a registry whose figures are read from the watch each time it is scraped."""
    registry = CollectorRegistry()
    registry.register(Figures(watch))
    return registry


class Figures(Collector):
    """Reads, never counts: the watch keeps its own figures."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        yield from self._of_dependencies()
        yield from self._of_data()
        yield from self._of_itself()

    def _of_dependencies(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("reanimate_watch_up", "1 up, 0 down, NaN not known yet.", labels=["dependency", "kind"])
        samples = CounterMetricFamily("reanimate_watch_samples", "Probes by outcome.", labels=["dependency", "outcome"])
        took = GaugeMetricFamily(
            "reanimate_watch_answer_seconds", "How long the latest answered probe took.", labels=["dependency"]
        )
        for vigil in self._watch.vigils.values():
            key = vigil.dependency.key
            up.add_metric([key, vigil.dependency.kind], UP[vigil.standing.state])
            for outcome, count in vigil.counts.items():
                samples.add_metric([key, outcome], count)
            answered = latest_answered(vigil.samples)
            if answered is not None:
                took.add_metric([key], answered.answered - answered.asked)
        yield from (up, samples, took)

    def _of_data(self) -> Iterator[Metric]:
        good = GaugeMetricFamily(
            "reanimate_watch_data_good",
            "1 when the latest data probe found everything.",
            labels=["target", "collection"],
        )
        for target, data in self._watch.data.items():
            for watched in data.collections.values():
                if watched.outcome is not None:
                    good.add_metric([target, watched.name], float(watched.outcome.good))
        yield good

    def _of_itself(self) -> Iterator[Metric]:
        watch = self._watch
        alarms = CounterMetricFamily("reanimate_watch_alarms", "Alarms by what became of them.", labels=["status"])
        alarms.add_metric(["firing"], watch.desk.raised)
        alarms.add_metric(["resolved"], watch.desk.resolved)
        observations = CounterMetricFamily(
            "reanimate_watch_observations", "What gateways reported.", labels=["target", "kind"]
        )
        for (target, kind), count in watch.observed.items():
            observations.add_metric([target, kind], count)
        yield from (alarms, observations)
        yield GaugeMetricFamily("reanimate_watch_blind", "1 while the watch cannot see.", value=watch.blindness.now)
        yield CounterMetricFamily(
            "reanimate_watch_blind_seconds", "How long it could not see.", value=watch.blindness.seconds(utcnow())
        )
        yield CounterMetricFamily("reanimate_watch_stalls", "Times it did not run for a while.", value=watch.stalls)
        yield GaugeMetricFamily("reanimate_watch_outbox_events", "Events not delivered yet.", value=len(watch.outbox))


def latest_answered(samples: Sequence[Sample]) -> Sample | None:
    return next((sample for sample in reversed(samples) if sample.ok), None)
