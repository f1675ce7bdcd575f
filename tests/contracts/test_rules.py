"""Rules about names, keys, queries and answers that the recordings do not cover."""

import asyncio
import uuid
from collections.abc import Callable

import httpx
import pytest
from points import dense_points, make_collection, upsert
from qdrant_server import QdrantServer, StandbyProcess

NewName = Callable[[], str]


async def _aliases(client: httpx.AsyncClient, *actions: dict[str, object]) -> httpx.Response:
    return await client.post("/collections/aliases", json={"actions": list(actions)})


def _create(alias: str, target: str) -> dict[str, object]:
    return {"create_alias": {"alias_name": alias, "collection_name": target}}


async def test_aliases__go_with_their_collection(client: httpx.AsyncClient, new_name: NewName) -> None:
    """Deleting a collection removes the aliases that lead to it, and no others."""
    one, other = new_name(), new_name()
    for name in (one, other):
        await make_collection(client, name)
    first, second = f"alias-{uuid.uuid4().hex}", f"alias-{uuid.uuid4().hex}"
    assert (await _aliases(client, _create(first, one), _create(second, other))).status_code == 200
    assert (await client.delete(f"/collections/{one}")).json()["result"] is True
    names = {alias["alias_name"] for alias in (await client.get("/aliases")).json()["result"]["aliases"]}
    assert second in names
    assert first not in names
    assert (await client.get(f"/collections/{first}")).status_code == 404


async def test_alias__is_switched_without_a_gap(client: httpx.AsyncClient, new_name: NewName) -> None:
    """While an alias is switched to and fro, whoever reads through it always gets one of the two collections."""
    names, alias = (new_name(), new_name()), f"alias-{uuid.uuid4().hex}"
    for amount, name in enumerate(names, 1):
        await upsert(client, await make_collection(client, name), dense_points(amount * 10))
    await _aliases(client, _create(alias, names[0]))
    seen: set[tuple[int, int]] = set()
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            answer = await client.post(f"/collections/{alias}/points/count", json={"exact": True})
            seen.add((answer.status_code, answer.json().get("result", {}).get("count", -1)))

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for turn in range(20):
        target = names[(turn + 1) % 2]
        switched = await _aliases(client, {"delete_alias": {"alias_name": alias}}, _create(alias, target))
        assert switched.status_code == 200
        await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*readers)
    assert seen == {(200, 10), (200, 20)}


async def test_read_only_key__reads_and_never_writes(
    qdrant: QdrantServer, client: httpx.AsyncClient, new_name: NewName
) -> None:
    """With the read-only key every read works, a snapshot's download too, and every write is refused with 403."""
    if qdrant.read_only_key is None:
        pytest.skip("no read-only key is known for this server")
    path = await make_collection(client, new_name())
    await upsert(client, path, dense_points(5))
    made = (await client.post(f"{path}/snapshots")).json()["result"]["name"]
    async with httpx.AsyncClient(base_url=qdrant.url, headers={"api-key": qdrant.read_only_key}) as reader:
        for method, route, body in (
            ("GET", path, None),
            ("POST", f"{path}/points/scroll", {"limit": 1}),
            ("POST", f"{path}/points/query", {"query": [1.0] * 8}),
            ("POST", f"{path}/points/count", {}),
            ("GET", f"{path}/snapshots/{made}", None),
            ("GET", "/metrics", None),
        ):
            assert (await reader.request(method, route, json=body)).status_code == 200, route
        for method, route, body in (
            ("PUT", f"{path}/points", {"points": dense_points(1)}),
            ("POST", f"{path}/points/delete", {"points": [1]}),
            ("POST", f"{path}/points/payload", {"payload": {"a": 1}, "points": [1]}),
            ("PUT", f"{path}/index", {"field_name": "n", "field_schema": "integer"}),
            ("POST", f"{path}/snapshots", None),
            ("DELETE", f"{path}/snapshots/{made}", None),
            ("PATCH", path, {}),
            ("DELETE", path, None),
            ("POST", "/collections/aliases", {"actions": []}),
        ):
            answer = await reader.request(method, route, json=body)
            assert answer.status_code == 403, f"{method} {route}: {answer.text}"
            assert answer.json()["status"]["error"].startswith("Forbidden: ")
    assert (await client.post(f"{path}/points/count", json={"exact": True})).json()["result"]["count"] == 5


async def test_geo_datetime_and_other_conditions(client: httpx.AsyncClient, new_name: NewName) -> None:
    """Conditions on places, times, flags and vectors select what they say."""
    path = await make_collection(client, new_name())
    points = [
        {
            "id": n,
            "vector": [1.0] * 8,
            "payload": {
                "at": f"2026-01-{n + 1:02}T00:00:00Z",
                "where": {"lon": 13.0 + n, "lat": 52.0},
                "flag": n % 2 == 0,
                **({"none": None} if n < 3 else {}),
            },
        }
        for n in range(10)
    ]
    await upsert(client, path, points)
    for field, kind in (("at", "datetime"), ("where", "geo"), ("flag", "bool")):
        body = {"field_name": field, "field_schema": kind}
        assert (await client.put(f"{path}/index", params={"wait": "true"}, json=body)).status_code == 200
    box = {"top_left": {"lon": 12.5, "lat": 53}, "bottom_right": {"lon": 15.5, "lat": 51}}
    corners = [{"lon": lon, "lat": lat} for lon, lat in ((12.5, 51), (14.5, 51), (14.5, 53), (12.5, 53), (12.5, 51))]
    cases: list[tuple[dict[str, object], int]] = [
        ({"key": "at", "range": {"gte": "2026-01-03T00:00:00Z", "lt": "2026-01-06T00:00:00Z"}}, 3),
        ({"key": "where", "geo_bounding_box": box}, 3),
        ({"key": "where", "geo_radius": {"center": {"lon": 13.0, "lat": 52.0}, "radius": 80000}}, 2),
        ({"key": "where", "geo_polygon": {"exterior": {"points": corners}}}, 2),
        ({"key": "flag", "match": {"value": True}}, 5),
        ({"is_null": {"key": "none"}}, 3),
        ({"is_empty": {"key": "none"}}, 10),
        ({"has_vector": ""}, 10),
        ({"key": "flag", "match": {"value": False}, "range": None}, 5),
        ({"should": [{"has_id": [1]}, {"has_id": [2]}]}, 2),
    ]
    for condition, expected in cases:
        body = {"exact": True, "filter": {"must": condition}}
        answer = await client.post(f"{path}/points/count", json=body)
        assert answer.status_code == 200, f"{condition}: {answer.text}"
        assert answer.json()["result"]["count"] == expected, condition


@pytest.mark.parametrize("shards", [1, 3])
async def test_queries__are_the_same_on_several_shards(
    client: httpx.AsyncClient, new_name: NewName, shards: int
) -> None:
    """Best first, pages, order and counts do not depend on how many shards hold the points."""
    path = await make_collection(client, new_name(), vectors={"size": 8, "distance": "Euclid"}, shard_number=shards)
    points = dense_points(120)
    await upsert(client, path, points)
    for field, kind in (("n", "integer"), ("lang", "keyword")):
        body = {"field_name": field, "field_schema": kind}
        assert (await client.put(f"{path}/index", params={"wait": "true"}, json=body)).status_code == 200
    wanted = points[7]["vector"]

    def distance(point: dict[str, list[float]]) -> float:
        return float(sum((a - b) ** 2 for a, b in zip(point["vector"], wanted, strict=True)) ** 0.5)

    expected = [point["id"] for point in sorted(points, key=distance)]
    body = {"query": wanted, "limit": 10, "offset": 5, "params": {"exact": True}}
    answer = (await client.post(f"{path}/points/query", json=body)).json()["result"]["points"]
    assert [hit["id"] for hit in answer] == expected[5:15]
    ordered = {"limit": 7, "order_by": {"key": "n", "direction": "desc"}, "with_payload": ["n"]}
    answer = (await client.post(f"{path}/points/scroll", json=ordered)).json()["result"]["points"]
    assert [point["payload"]["n"] for point in answer] == list(range(119, 112, -1))
    facet = (await client.post(f"{path}/facet", json={"key": "lang", "exact": True})).json()["result"]["hits"]
    assert sum(hit["count"] for hit in facet) == 120
    fused = {
        "prefetch": [{"query": wanted, "limit": 20}, {"query": points[8]["vector"], "limit": 20}],
        "query": {"fusion": "rrf"},
        "limit": 3,
        "with_payload": True,
    }
    answer = (await client.post(f"{path}/points/query", json=fused)).json()["result"]["points"]
    assert {points[7]["id"], points[8]["id"]} <= {hit["id"] for hit in answer}
    assert all("payload" in hit for hit in answer)
    by_id = {"query": points[7]["id"], "limit": 3}
    answer = (await client.post(f"{path}/points/query", json=by_id)).json()["result"]["points"]
    assert [hit["id"] for hit in answer] == expected[1:4]


async def test_vectors__are_changed_and_removed(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A named vector is replaced or taken away without touching the others."""
    vectors = {"a": {"size": 2, "distance": "Dot"}, "b": {"size": 2, "distance": "Dot"}}
    path = await make_collection(client, new_name(), vectors=vectors)
    await upsert(client, path, [{"id": 1, "vector": {"a": [1.0, 2.0], "b": [3.0, 4.0]}, "payload": {}}])
    body = {"points": [{"id": 1, "vector": {"a": [5.0, 6.0]}}]}
    assert (await client.put(f"{path}/points/vectors", params={"wait": "true"}, json=body)).status_code == 200
    gone = {"points": [1], "vector": ["b"]}
    assert (await client.post(f"{path}/points/vectors/delete", params={"wait": "true"}, json=gone)).status_code == 200
    assert (await client.get(f"{path}/points/1")).json()["result"]["vector"] == {"a": [5.0, 6.0]}


async def test_read_only_server__refuses_writes(
    start_standby: Callable[..., StandbyProcess], standby_only: None
) -> None:
    """Started with `--read-only` it refuses writes with 403, whatever the key, and says so at `GET /`."""
    process = start_standby("readers", "--read-only")
    async with process.server.client() as client:
        answer = await client.put("/collections/new", json={"vectors": {"size": 2, "distance": "Dot"}})
        assert answer.status_code == 403
        assert "read-only" in answer.json()["status"]["error"]
        assert (await client.get("/collections")).status_code == 200
        assert (await client.get("/")).json()["standby"]["writable"] is False


async def test_large_body__is_refused(client: httpx.AsyncClient, new_name: NewName, standby_only: None) -> None:
    """A JSON body over 32 MiB is refused with 400."""
    path = await make_collection(client, new_name())
    answer = await client.put(f"{path}/points", content=b'{"points": [' + b" " * (33 << 20) + b"]}")
    assert answer.status_code == 400
    assert "larger than allowed" in answer.json()["status"]["error"]
