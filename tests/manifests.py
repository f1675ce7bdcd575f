"""Manifests for tests of rules: valid, small, and any field different on demand."""

from datetime import UTC, datetime
from typing import Any

from reanimate.backups.manifest import GoldenHit, GoldenQuery, LiveCounts, Sentinel, Server, VectorManifest

__all__ = ["TAKEN", "manifest"]

TAKEN = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)


def manifest(**changes: Any) -> VectorManifest:
    """Return a manifest of two points in one shard, changed as asked."""
    fields: dict[str, Any] = {
        "id": "20261123T013000Z-kb-1a2b",
        "collection": "kb",
        "asked_as": "kb",
        "aliases": [],
        "target": "primary",
        "server": Server(title="qdrant - vector search engine", version="1.18.3"),
        "tool_version": "0.1.0",
        "taken_at": TAKEN,
        "config": {"params": {"vectors": {"size": 2, "distance": "Cosine"}, "shard_number": 1}},
        "payload_schema": {"lang": {"data_type": "keyword"}},
        "exact_count": 2,
        "live": LiveCounts(before=2, after=2),
        "parts": [{"shard_id": 0, "blob": "backups/kb/x/shard-0.snapshot", "size": 1000, "sha256": "00" * 32}],
        "sentinels": [Sentinel(id=1, sha256="11" * 32)],
        "golden": [
            GoldenQuery(
                using="",
                point=1,
                vector=[1.0, 0.0],
                limit=10,
                hits=[GoldenHit(id=1, score=1.0), GoldenHit(id=2, score=0.5)],
            )
        ],
    }
    return VectorManifest(**{**fields, **changes})
