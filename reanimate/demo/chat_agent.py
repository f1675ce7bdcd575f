"""An agent that streams answers through the gateway, and looks at each as its user would: whole, in time, right?"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from reanimate.demo.asking import asking_every
from reanimate.demo.local_providers import ROUTE
from reanimate.demo.provider import answer_text
from reanimate.demo.tally import Tally

__all__ = ["ChatAgent", "ChatCount"]

_EVERY_S = 0.1
_PATIENCE_S = 20.0
_TOKENS = 40
_CONTINUED = b": reanimate continued"


@dataclass
class ChatCount(Tally):
    """What the users of the agent noticed. Each answer is one of whole, cut, wrong and lost."""

    whole: int = 0
    """Every character of it, in order, and the word that it is finished."""
    cut: int = 0
    """It began, and did not come to its end."""
    wrong: int = 0
    """It came to its end, and was not what it should be."""
    lost: int = 0
    """Not one token came."""
    continued: int = 0
    """Begun by one provider and gone on with by another."""
    degraded: int = 0
    slowest_first_s: float = 0.0
    """The longest that a user waited for the first token."""
    slowest_gap_s: float = 0.0
    """The longest pause in an answer that had begun."""
    first_failure: str = ""

    def failures(self) -> int:
        return self.cut + self.wrong + self.lost

    def told(self) -> str:
        return (
            f"{self.whole + self.failures()} answers streamed, {self.whole} whole and right, {self.cut} cut, "
            f"{self.wrong} wrong, {self.lost} lost; {self.continued} begun by one "
            f"provider and ended by another; first token after {self.slowest_first_s:.2f} s at most, longest pause "
            f"{self.slowest_gap_s:.2f} s {self.first_failure}"
        )


class _Hearing:
    """One answer as it comes in."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.parts: list[str] = []
        self.finish = ""
        self.done = False
        self.error = ""
        self.continued = False
        self.first_s = 0.0
        self.gap_s = 0.0
        self._last = 0.0

    def line(self, line: bytes) -> None:
        """Take in one line of the stream."""
        if line.startswith(_CONTINUED):
            self.continued = True
        if not line.startswith(b"data: "):
            return
        if line.startswith(b"data: [DONE]"):
            self.done = True
            return
        event = orjson.loads(line[6:])
        if "error" in event:
            self.error = f"error event: {event['error']}"[:200]
            return
        for choice in event["choices"]:
            self.finish = choice.get("finish_reason") or self.finish
            if text := choice["delta"].get("content"):
                self._token(text)

    def _token(self, text: str) -> None:
        now = time.monotonic()
        if self.parts:
            self.gap_s = max(self.gap_s, now - self._last)
        else:
            self.first_s = now - self.began
        self._last = now
        self.parts.append(text)

    @property
    def text(self) -> str:
        return "".join(self.parts)


class ChatAgent:
    """Asks a question ten times a second and has the answers streamed, several at a time."""

    def __init__(self, gateway_url: str, subjects: Sequence[str]) -> None:
        self.count = ChatCount()
        self._url = f"{gateway_url}/v1/chat/completions"
        self._subjects = subjects

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[ChatCount]:
        """Ask for as long as the block lasts; on leaving, wait for the answers still underway."""
        async with asking_every(_EVERY_S, self._ask, patience_s=_PATIENCE_S):
            yield self.count

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        number = self.count.asked
        self.count.asked += 1
        question = f"{number}: what is {self._subjects[number % len(self._subjects)]}? [[tokens={_TOKENS}]]"
        asked = {"model": ROUTE, "stream": True, "messages": [{"role": "user", "content": question}]}
        heard = _Hearing()
        try:
            async with session.post(self._url, json=asked) as answer:
                self.count.degraded += "X-Reanimate-Degraded" in answer.headers
                if answer.status != 200:
                    heard.error = f"status {answer.status}: {(await answer.text())[:200]}"
                else:
                    async for line in answer.content:
                        heard.line(line)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            heard.error = f"{type(error).__name__}: {error}"
        self._judge(heard, question)

    def _judge(self, heard: _Hearing, question: str) -> None:
        count = self.count
        count.slowest_first_s = max(count.slowest_first_s, heard.first_s or time.monotonic() - heard.began)
        count.slowest_gap_s = max(count.slowest_gap_s, heard.gap_s)
        count.continued += heard.continued
        if not heard.parts:
            count.lost += 1
        elif heard.error or heard.finish != "stop" or not heard.done:
            count.cut += 1
        elif heard.text != answer_text(question, _TOKENS):
            count.wrong += 1
        else:
            count.whole += 1
            return
        what = heard.error or f"finish {heard.finish!r}, done {heard.done}, text {heard.text!r}"
        count.first_failure = count.first_failure or f"question {question!r}: {what}"[:500]
