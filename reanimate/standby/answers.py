"""What the engine found, said as the REST API says it. Runs in shard processes."""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

from typing import Any
from uuid import UUID

import qdrant_edge as edge

from reanimate.standby.engine_config import schema_of
from reanimate.standby.singles import shortest

__all__ = ["hit", "info", "plain_id", "record"]

Json = dict[str, Any]


def plain_id(value: int | str | UUID) -> int | str:
    return value if isinstance(value, int) else str(value)


def _vector(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _vector(one) for name, one in value.items()}
    if isinstance(value, edge.SparseVector):
        return {"indices": list(value.indices), "values": [shortest(one) for one in value.values]}
    if value and isinstance(value[0], list):
        return [[shortest(one) for one in row] for row in value]
    return [shortest(one) for one in value]


def hit(point: edge.ScoredPoint, *, with_vector: bool) -> Json:
    """One answer of a query. Some queries have the engine return vectors that nobody asked for."""
    answer = {
        "id": plain_id(point.id),
        "version": point.version,
        "score": shortest(point.score),
        **_contents(point),
    }
    if not with_vector:
        answer.pop("vector", None)
    return answer


def record(point: edge.Record) -> Json:
    """One answer of a retrieve or a scroll."""
    return {"id": plain_id(point.id), **_contents(point)}


def _contents(point: edge.ScoredPoint | edge.Record) -> Json:
    answer: Json = {}
    if point.payload is not None:
        answer["payload"] = point.payload
    if point.vector is not None:
        answer["vector"] = _vector(point.vector)
    if point.order_value is not None:
        answer["order_value"] = point.order_value
    return answer


def info(shard: edge.EdgeShard) -> Json:
    """Counts and payload indexes of the shard."""
    found = shard.info()
    return {
        "points_count": found.points_count,
        "indexed_vectors_count": found.indexed_vectors_count,
        "segments_count": found.segments_count,
        "payload_schema": {name: schema_of(index) for name, index in found.payload_schema.items()},
    }
