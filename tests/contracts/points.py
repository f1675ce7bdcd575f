"""Points for the contract tests, and how to read all of a collection back."""

import random
import uuid
from typing import Any

import httpx
import pytest

__all__ = ["all_points", "count", "dense_points", "make_collection", "same_points", "upload", "upsert"]

Json = dict[str, Any]

_NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def dense_points(amount: int, size: int = 8, seed: int = 1) -> list[Json]:
    """Return points with mixed ids, one unnamed vector and some payload; the same for the same seed."""
    chance = random.Random(seed)
    return [
        {
            "id": n if n % 3 else str(uuid.uuid5(_NAMESPACE, str(n))),
            "vector": [round(chance.uniform(-1, 1), 4) for _ in range(size)],
            "payload": {"n": n, "lang": chance.choice(["de", "en", "fr"]), "nested": {"tags": ["a"] * (n % 3)}},
        }
        for n in range(amount)
    ]


async def make_collection(client: httpx.AsyncClient, name: str, **config: Any) -> str:
    """Create a collection of dot-product vectors of 8, unless the config says something else; return its path."""
    body = {"vectors": {"size": 8, "distance": "Dot"}, **config}
    answer = await client.put(f"/collections/{name}", json=body)
    assert answer.status_code == 200, answer.text
    return f"/collections/{name}"


async def upsert(client: httpx.AsyncClient, path: str, points: list[Json]) -> None:
    answer = await client.put(f"{path}/points", params={"wait": "true"}, json={"points": points})
    assert answer.status_code == 200, answer.text


async def count(client: httpx.AsyncClient, path: str) -> int:
    answer = await client.post(f"{path}/points/count", json={"exact": True})
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["result"]["count"]
    return found


async def all_points(client: httpx.AsyncClient, path: str) -> dict[int | str, Json]:
    """Scroll through the whole collection, a page at a time."""
    found: dict[int | str, Json] = {}
    offset = None
    while True:
        body = {"limit": 64, "with_payload": True, "with_vector": True, "offset": offset}
        answer = await client.post(f"{path}/points/scroll", json=body)
        assert answer.status_code == 200, answer.text
        page = answer.json()["result"]
        for point in page["points"]:
            assert point["id"] not in found, "scrolled past the same point twice"
            found[point["id"]] = point
        offset = page["next_page_offset"]
        if offset is None:
            return found


async def upload(client: httpx.AsyncClient, path: str, content: bytes, **params: str) -> httpx.Response:
    """Upload a snapshot to `{path}/snapshots/upload`."""
    files = {"snapshot": ("uploaded.snapshot", content)}
    return await client.post(f"{path}/snapshots/upload", params={"priority": "snapshot", **params}, files=files)


def same_points(found: dict[int | str, Json], expected: dict[int | str, Json]) -> None:
    """Check that all points are there with their payloads, and their vectors as single-precision numbers."""
    assert set(found) == set(expected)
    for point, truth in expected.items():
        assert found[point]["payload"] == (truth.get("payload") or {})
        assert _numbers(found[point]["vector"]) == pytest.approx(_numbers(truth["vector"]), abs=1e-6, rel=1e-6)


def _numbers(vector: Any) -> list[float]:
    if isinstance(vector, dict):
        return [number for name in sorted(vector) for number in _numbers(vector[name])]
    if isinstance(vector, list):
        return [number for part in vector for number in _numbers(part)]
    return [float(vector)]
