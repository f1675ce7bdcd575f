"""A small agent: it asks the knowledge base a question every 50 ms through the gateway, and counts what it gets."""

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from reanimate.demo.asking import asking_every
from reanimate.demo.knowledge import Passage, embed
from reanimate.demo.tally import Tally

__all__ = ["Agent", "Count"]

_EVERY_S = 0.05
_PATIENCE_S = 10.0


@dataclass
class Count(Tally):
    """What the agent saw. `degraded` answers are good answers that the gateway marked; they are among `answered`."""

    answered: int = 0
    degraded: int = 0
    failed: int = 0
    slowest_s: float = 0.0
    first_failure: str = ""

    def failures(self) -> int:
        return self.failed

    def told(self) -> str:
        return (
            f"{self.asked} questions, {self.answered} answered, {self.degraded} of them degraded, "
            f"{self.failed} failed, slowest {self.slowest_s:.2f} s {self.first_failure}"
        )


class Agent:
    """Asks real questions: a line out of a passage, whose answer must bring back at least one hit."""

    def __init__(self, gateway_url: str, collection: str, knowledge: Sequence[Passage], seed: int = 7) -> None:
        self.count = Count()
        self._url = f"{gateway_url}/collections/{collection}/points/query"
        self._questions = [
            embed(passage.text[:200]).tolist() for passage in knowledge[:: max(1, len(knowledge) // 200)]
        ]
        self._random = random.Random(seed)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Count]:
        """Ask for as long as the block lasts; on leaving, wait for the answers still underway."""
        async with asking_every(_EVERY_S, self._ask, patience_s=_PATIENCE_S):
            yield self.count

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        self.count.asked += 1
        question = {"query": self._random.choice(self._questions), "limit": 3, "with_payload": ["title"]}
        began = time.monotonic()
        why = ""
        try:
            async with session.post(self._url, json=question) as answer:
                body = await answer.json(content_type=None)
                hits = body["result"]["points"] if answer.status == 200 else []
                degraded = "X-Reanimate-Degraded" in answer.headers
                why = "" if hits else f"status {answer.status}: {str(body)[:200]}"
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            why, degraded = f"{type(error).__name__}: {error}", False
        self.count.slowest_s = max(self.count.slowest_s, time.monotonic() - began)
        if why:
            self.count.failed += 1
            self.count.first_failure = self.count.first_failure or why
        else:
            self.count.answered += 1
            self.count.degraded += degraded
