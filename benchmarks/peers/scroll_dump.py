"""A peer of backup-restore: scroll everything to JSON lines and gzip, and upsert it back, as most scripts do it.

With the vendor's own client, a thousand points to a page, gzip's usual level 6. Nothing is hashed or verified.
"""

import gzip
import json
import time
import warnings
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

__all__ = ["dump", "load"]

_PAGE = 1000


def client_of(url: str, api_key: str | None) -> QdrantClient:
    warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")  # it is this machine
    return QdrantClient(url=url, api_key=api_key, timeout=300, prefer_grpc=False, check_compatibility=False)


def dump(url: str, api_key: str | None, collection: str, file: Path) -> int:
    """Write every point as a line of JSON and return how many there were."""
    client = client_of(url, api_key)
    count, offset = 0, None
    with gzip.open(file, "wt", compresslevel=6) as out:
        while True:
            records, offset = client.scroll(
                collection, limit=_PAGE, offset=offset, with_payload=True, with_vectors=True
            )
            for record in records:
                row = {"id": record.id, "vector": record.vector, "payload": record.payload}
                out.write(json.dumps(row) + "\n")
            count += len(records)
            if offset is None:
                client.close()
                return count


def load(url: str, api_key: str | None, collection: str, file: Path) -> None:
    """Upsert every line into an existing collection and wait until its index is built."""
    client = client_of(url, api_key)
    rows: list[dict[str, Any]] = []
    with gzip.open(file, "rt") as lines:
        for line in lines:
            rows.append(json.loads(line))
            if len(rows) == _PAGE:
                _upsert(client, collection, rows)
                rows = []
    if rows:
        _upsert(client, collection, rows)
    while client.get_collection(collection).status != models.CollectionStatus.GREEN:
        time.sleep(0.1)
    client.close()


def _upsert(client: QdrantClient, collection: str, rows: list[dict[str, Any]]) -> None:
    client.upsert(collection, [models.PointStruct(**row) for row in rows], wait=True)
