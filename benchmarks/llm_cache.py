"""How long a stored answer takes: found and made ready to be sent, whole and as a stream, of prompts of 2 and 32 KB.

In process, without a network: what the cache itself costs. Beside it LiteLLM's Router with its local cache, and the
floor: the request's JSON sorted, hashed, and looked up in a dict.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from benchmarks.llm_candidates import LITELLM, provider
from benchmarks.peers.environments import peer_environment
from benchmarks.report import Goal, Report, Row, parser, percentile
from reanimate.gateway.llm.cache.cache import LlmCache
from reanimate.gateway.llm.cache.hit import Hit
from reanimate.gateway.llm.call import Attempt, Call, Ending, Tenant
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings

__all__ = ["main"]

SIZES_KB = (2, 32)
GOALS_US = {2: 30.0, 32: 80.0}
TEXT = "The quick brown fox jumps over the lazy dog, naïvely. "
PEER = Path(__file__).parent / "peers" / "litellm_cache.py"
PATH = "/v1/chat/completions"
HEADERS = {"host": "gateway", "user-agent": "client", "accept": "application/json", "content-type": "application/json"}


def messages_of(size_kb: int) -> list[dict[str, str]]:
    """Return a question of about so many bytes as JSON."""
    return [{"role": "user", "content": TEXT * (size_kb * 1024 // len(TEXT.encode()))}]


def answer() -> bytes:
    message = {"role": "assistant", "content": "word " * 100, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110}
    return orjson.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                         "usage": usage})  # fmt: skip


class Ours:
    """The gateway's cache with one answer in it."""

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        settings = LlmSettings.model_validate(
            {
                "providers": [{"name": "main", "url": "http://main", "models": [{"name": "m"}]}],
                "routes": [{"name": "m", "targets": ["main/m"], "cache_ttl_s": 3600.0}],
            }
        )
        self._catalogue = Catalogue(settings)
        self._fields = fields
        self._cache = LlmCache(folder, settings)

    def call(self, stream: bool) -> Call:
        scope = {
            "method": "POST", "raw_path": PATH.encode(), "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in HEADERS.items()],
        }  # fmt: skip
        prompt = read_prompt(ENDPOINTS[PATH], orjson.dumps({**self._fields, "stream": stream}))
        request = Request(scope, None, None)  # type: ignore[arg-type]  # nothing is received or sent
        now = asyncio.get_running_loop().time()
        route = self._catalogue.routes["m"]
        return Call("llm-1", request, prompt, Tenant("t", "t"), route, self._catalogue, now, now + 60)

    async def store(self) -> None:
        call = self.call(False)
        assert await self._cache.find(call) is None
        call.attempts.append(Attempt(self._catalogue.targets["main/m"], None, 0.0, served=True))
        call.ending = Ending.ANSWERED
        self._cache.keep(call, answer())
        self._cache.done(call)

    async def hits(self, count: int, stream: bool) -> list[float]:
        """Return how long each took, in microseconds."""
        took = []
        for call in [self.call(stream) for _ in range(count)]:
            began = time.perf_counter()
            hit = await self._cache.find(call)
            assert isinstance(hit, Hit)
            body = b"".join(hit.events(call)) if stream else hit.marked()
            self._cache.done(call)
            took.append((time.perf_counter() - began) * 1e6)
            assert body
        return took


def floor(fields: dict[str, Any], count: int) -> list[float]:
    """Return how long it takes at least."""
    known: dict[bytes, bytes] = {}
    look: Callable[[], bytes] = lambda: blake2b(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).digest()  # noqa: E731
    known[look()] = answer()
    took = []
    for _ in range(count):
        began = time.perf_counter()
        assert known[look()]
        took.append((time.perf_counter() - began) * 1e6)
    return took


async def litellm(python: Path, base_url: str, messages: list[dict[str, str]], count: int) -> list[float]:
    """Return how long LiteLLM's hits take, in microseconds."""
    done = await asyncio.to_thread(
        subprocess.run, [python, PEER, base_url, str(count)], input=json.dumps(messages), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return [took * 1000 for took in json.loads(done.stdout.splitlines()[-1])]


async def run(rounds: int, hits: int) -> Report:
    python = await asyncio.to_thread(lambda: peer_environment("litellm", LITELLM) / "python")
    rows: dict[tuple[str, str], list[float]] = {}
    async with provider("main") as standin:
        for _ in range(rounds):
            for size in SIZES_KB:
                fields = {"model": "m", "messages": messages_of(size), "temperature": 0.2}
                with TemporaryDirectory(prefix="reanimate-bench-") as folder:
                    ours = Ours(Path(folder), fields)
                    await ours.store()
                    found = {
                        "reanimate": await ours.hits(hits, False),
                        "reanimate, as a stream": await ours.hits(hits, True),
                        "floor": floor(fields, hits),
                        "LiteLLM Router": await litellm(python, f"{standin.url}/v1", messages_of(size), hits // 20),
                    }
                for who, took in found.items():
                    rows.setdefault((who, f"hit, {size} KB, p50"), []).append(percentile(took, 50))
                    rows.setdefault((who, f"hit, {size} KB, p99"), []).append(percentile(took, 99))
    found_rows = [Row(who, what, "us", tuple(values)) for (who, what), values in rows.items()]
    by_name = {(row.who, row.what): row for row in found_rows}
    goals = [
        Goal(f"a hit of a {size} KB prompt", by_name["reanimate", f"hit, {size} KB, p50"].median, "us", GOALS_US[size])
        for size in SIZES_KB
    ]
    return Report("llm-cache: a stored answer, in process", found_rows, goals)


def main() -> int:
    given: Any = parser(__doc__ or "", rounds=5, hits=2_000).parse_args()
    return asyncio.run(run(given.rounds, given.hits)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
