"""The official Python client works against the server under test, blocking and not."""

import warnings
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from points import dense_points
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_server import QdrantServer

NewName = Callable[[], str]


@pytest.fixture
def blocking(qdrant: QdrantServer) -> Iterator[QdrantClient]:
    """The blocking client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a key over plain HTTP, on this machine only
        client = QdrantClient(url=qdrant.url, api_key=qdrant.key, check_compatibility=False, timeout=60)
    yield client
    client.close()


@pytest.fixture
async def waiting(qdrant: QdrantServer) -> AsyncIterator[AsyncQdrantClient]:
    """The client for asyncio."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        client = AsyncQdrantClient(url=qdrant.url, api_key=qdrant.key, check_compatibility=False, timeout=60)
    yield client
    await client.close()


def _points(amount: int) -> list[models.PointStruct]:
    return [models.PointStruct(id=p["id"], vector=p["vector"], payload=p["payload"]) for p in dense_points(amount)]


def test_blocking_client(blocking: QdrantClient, new_name: NewName) -> None:
    """Collections, indexes, points, queries, aliases and snapshots through the blocking client."""
    name, alias = new_name(), f"{new_name()}-alias"
    shape = models.VectorParams(size=8, distance=models.Distance.COSINE)
    assert blocking.create_collection(name, vectors_config=shape)
    assert blocking.collection_exists(name)
    blocking.create_payload_index(name, "lang", models.PayloadSchemaType.KEYWORD, wait=True)
    blocking.upload_points(name, _points(100), batch_size=30, wait=True)
    assert blocking.count(name, exact=True).count == 100
    german = models.Filter(must=[models.FieldCondition(key="lang", match=models.MatchValue(value="de"))])
    hits = blocking.query_points(name, query=[1.0] * 8, query_filter=german, limit=5, with_payload=True).points
    assert len(hits) == 5
    assert all(hit.payload and hit.payload["lang"] == "de" for hit in hits)
    blocking.set_payload(name, {"seen": True}, points=[1, 2], wait=True)
    found = blocking.retrieve(name, [1], with_payload=True, with_vectors=True)
    assert found[0].payload is not None
    assert found[0].payload["seen"] is True
    page, following = blocking.scroll(name, limit=10, with_payload=False)
    assert len(page) == 10
    assert following is not None
    assert blocking.facet(name, "lang", exact=True).hits
    create = models.CreateAlias(collection_name=name, alias_name=alias)
    blocking.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    assert [one.alias_name for one in blocking.get_collection_aliases(name).aliases] == [alias]
    described = blocking.create_snapshot(name)
    assert described is not None
    assert [one.name for one in blocking.list_snapshots(name)] == [described.name]
    assert blocking.delete_snapshot(name, described.name)
    blocking.delete(name, points_selector=models.FilterSelector(filter=german), wait=True)
    assert blocking.count(name, count_filter=german, exact=True).count == 0
    info = blocking.get_collection(name)
    assert info.status == models.CollectionStatus.GREEN
    assert blocking.delete_collection(name)


async def test_waiting_client(waiting: AsyncQdrantClient, new_name: NewName) -> None:
    """The same through the client for asyncio, with named and sparse vectors, batches and an error."""
    name = new_name()
    await waiting.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=4, distance=models.Distance.DOT)},
        sparse_vectors_config={"bm25": models.SparseVectorParams()},
        shard_number=2,
    )
    sparse = models.SparseVector(indices=[1, 5], values=[0.5, 1.0])
    points = [
        models.PointStruct(
            id=n,
            vector={"dense": [float(n), 1.0, 0.0, 0.0], "bm25": models.SparseVector(indices=[1], values=[n + 1.0])},
            payload={"n": n},
        )
        for n in range(20)
    ]
    await waiting.upsert(name, points, wait=True)
    answer = await waiting.query_points(
        name,
        prefetch=[
            models.Prefetch(query=[1.0, 0.0, 0.0, 0.0], using="dense", limit=5),
            models.Prefetch(query=sparse, using="bm25", limit=5),
        ],
        query=models.FusionQuery(fusion=models.Fusion.RRF),
        limit=3,
    )
    assert answer.points[0].id == 19
    batch = [models.QueryRequest(query=[1.0, 0.0, 0.0, 0.0], using="dense", limit=n) for n in (1, 2)]
    assert [len(one.points) for one in await waiting.query_batch_points(name, batch)] == [1, 2]
    operations = [
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": 1}, points=[3])),
        models.DeleteOperation(delete=models.PointIdsList(points=[4])),
    ]
    await waiting.batch_update_points(name, operations, wait=True)
    assert (await waiting.count(name, exact=True)).count == 19
    described = await waiting.create_shard_snapshot(name, shard_id=1)
    assert described is not None
    assert len(await waiting.list_shard_snapshots(name, shard_id=1)) == 1
    with pytest.raises(UnexpectedResponse) as refused:
        await waiting.query_points(name, query=[1.0], using="dense")
    assert refused.value.status_code == 400
    assert b"Vector dimension error" in refused.value.content
    await waiting.delete_collection(name)
