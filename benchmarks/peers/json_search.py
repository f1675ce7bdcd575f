"""Searching an export without a server, as a careful person would: JSON into numpy, or into the vendor's local mode."""

import gzip
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from qdrant_client import QdrantClient, models

__all__ = ["LocalMode", "NumpyExport"]

Json = dict[str, Any]


@dataclass
class NumpyExport:
    """All vectors in one matrix, payloads in a list; exact, and filters are a loop."""

    matrix: "np.ndarray[Any, np.dtype[np.float32]]"
    payloads: list[Json]

    @classmethod
    def load(cls, file: Path) -> "NumpyExport":
        """Read an export: gzip of one JSON object per line."""
        vectors, payloads = [], []
        with gzip.open(file, "rb") as lines:
            for line in lines:
                point = orjson.loads(line)
                vectors.append(np.asarray(point["vector"], dtype="f4"))
                payloads.append(point["payload"])
        return cls(np.stack(vectors), payloads)

    def search(self, vector: list[float], lang: str, limit: int = 10) -> list[int]:
        """Return the places of the nearest points of a language."""
        allowed = np.fromiter((payload["lang"] == lang for payload in self.payloads), bool, len(self.payloads))
        scores = np.where(allowed, self.matrix @ np.asarray(vector, dtype="f4"), -np.inf)
        best = np.argpartition(-scores, limit)[:limit]
        return [int(one) for one in best[np.argsort(-scores[best])]]


class LocalMode:
    """The vendor's client without a server, filled from the export."""

    def __init__(self, export: NumpyExport) -> None:
        warnings.filterwarnings("ignore", message="Local mode is not recommended")  # that is what is measured
        began = time.perf_counter()
        self._client = QdrantClient(":memory:")
        size = export.matrix.shape[1]
        self._client.create_collection(
            "kb", vectors_config=models.VectorParams(size=size, distance=models.Distance.COSINE)
        )
        self._client.upload_collection(
            "kb", vectors=export.matrix, payload=export.payloads, ids=range(len(export.payloads))
        )
        self.filled_s = time.perf_counter() - began

    def search(self, vector: list[float], lang: str, limit: int = 10) -> list[int]:
        wanted = models.Filter(must=[models.FieldCondition(key="lang", match=models.MatchValue(value=lang))])
        found = self._client.query_points("kb", query=vector, query_filter=wanted, limit=limit)
        return [int(point.id) for point in found.points]

    def close(self) -> None:
        self._client.close()
