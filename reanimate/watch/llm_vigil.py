"""Keeps an eye on LLM calls: asks the gateway what it counted, and raises and ends alarms by it."""

import asyncio
import logging
import time
from collections import deque
from datetime import datetime, timedelta
from typing import Any

import httpx

from reanimate.clock import utcnow
from reanimate.incidents.faults import Fault
from reanimate.watch.alarm import Alarm
from reanimate.watch.desk import Desk
from reanimate.watch.llm_judge import Accusation, Ripening, State, accuse, ripen
from reanimate.watch.llm_quality import accuse_quality
from reanimate.watch.sample import wall_time

__all__ = ["LlmVigil", "is_about_llm_calls"]

log = logging.getLogger(__name__)

EVERY_S = 1.0
SOON_S = 0.25
QUALITY_EVERY_S = 15.0
WINDOW = timedelta(seconds=60)
LATELY = timedelta(minutes=5)
USUALLY = timedelta(hours=1)
TIMEOUT_S = 1.0
OBSERVATION_COUNTS_S = 60.0
_PREFIX = "watch:llm:"


def is_about_llm_calls(alarm: Alarm) -> bool:
    """Say whether an alarm is this vigil's."""
    return alarm.fingerprint.startswith(_PREFIX) and alarm.labels.get("seen_by") == "gateway"


class LlmVigil:
    """One gateway's LLM plane. A gateway that does not answer changes nothing: its own vigil says so."""

    def __init__(self, desk: Desk, http: httpx.AsyncClient, control_url: str, control_key: str) -> None:
        self._desk = desk
        self._http = http
        self._url = f"{control_url}/figures"
        self._headers = {"authorization": f"Bearer {control_key}"}
        self._state: State = {}
        self._quality: dict[str, Accusation] = {}
        self._quality_at = float("-inf")
        self._observed: deque[tuple[float, dict[str, Any]]] = deque(maxlen=200)
        self._stir = asyncio.Event()
        self._began = time.monotonic()
        self.level: str | None = None
        """How far from a good day the gateway says it is."""
        self.error: str | None = None

    def observe(self, target: str, kind: str, detail: str, standing: str | None) -> None:
        """Take in what a gateway saw: evidence, and a reason to look at once."""
        self._observed.append(
            (
                time.monotonic(),
                {
                    "at": utcnow().isoformat(),
                    "check": "gateway",
                    "found": kind,
                    "expected": "answered",
                    "detail": f"{target}: {detail}" + (f" ({standing})" if standing else ""),
                    "target": target,
                },
            )
        )
        self._stir.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._stir.clear()
            await self._look()
            ripening = any(not item.fired for item in self._state.values())
            await self._wait(SOON_S if ripening else EVERY_S)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stir.wait()
                await asyncio.sleep(SOON_S / 2)  # what comes in a burst is looked at once
        except TimeoutError:
            pass

    async def _look(self) -> None:
        lately = await self._figures(WINDOW)
        if lately is None:
            return
        self.level = (lately.get("policies") or {}).get("level")
        now = time.monotonic()
        if now - self._quality_at >= QUALITY_EVERY_S:
            recent, usual = await self._figures(LATELY), await self._figures(USUALLY)
            if recent is not None and usual is not None:
                self._quality_at, self._quality = now, accuse_quality(recent, usual, lately)
        self._tell(ripen({**accuse(lately), **self._quality}, now, self._state), now)

    async def _figures(self, back: timedelta) -> dict[str, Any] | None:
        """Return the gateway's figures of LLM calls; None when it has none, or does not answer."""
        try:
            answer = await self._http.get(
                self._url,
                params={"since": (utcnow() - back).isoformat()},
                headers=self._headers,
                timeout=TIMEOUT_S,
            )
            answer.raise_for_status()
            found = answer.json().get("llm")
        except (httpx.HTTPError, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"
            return None
        self.error = None
        return found if isinstance(found, dict) else None

    def _tell(self, state: State, now: float) -> None:
        for fingerprint, alarm in list(self._desk.firing.items()):
            if is_about_llm_calls(alarm) and not self._still(fingerprint, state, alarm, now):
                self._desk.resolve(fingerprint, utcnow())
        for fingerprint, item in state.items():
            if item.fired and fingerprint not in self._desk.firing:
                self._desk.fire(self._alarm(item, now), utcnow())
        self._state = state

    def _still(self, fingerprint: str, state: State, alarm: Alarm, now: float) -> bool:
        if fingerprint in state:
            return True
        # After a restart nothing is known yet of what was firing before: it gets a fair look first.
        return fingerprint not in self._state and now - self._began < _grace_s(alarm)

    def _alarm(self, item: Ripening, now: float) -> Alarm:
        accusation = item.accusation
        since: datetime = wall_time(item.since, now)
        look = {
            "at": utcnow().isoformat(),
            "check": "figures of the gateway",
            "found": ", ".join(f"{key}={value}" for key, value in accusation.found.items()),
            "expected": "calls answered",
            "detail": accusation.summary,
        }
        observed = [
            seen
            for at, seen in self._observed
            if now - at < OBSERVATION_COUNTS_S and seen["target"].startswith(accusation.subject.removeprefix("llm:"))
        ]
        return Alarm(
            fingerprint=accusation.fingerprint,
            subject=accusation.subject,
            starts_at=since,
            labels={
                "fault": accusation.fault,
                "component": accusation.subject,
                "seen_by": "gateway",
                **accusation.labels,
            },
            annotations={"summary": accusation.summary},
            evidence=(look, *observed[-10:]),
        )


def _grace_s(alarm: Alarm) -> float:
    """Return how long an alarm from before a restart is kept without having been seen again."""
    slow = (Fault.OUTPUT_QUALITY_DROP, Fault.MALICIOUS_PROMPT_ATTACK)
    return 90.0 if alarm.labels.get("fault") in slow else 15.0
