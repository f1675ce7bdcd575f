"""One hash per point, the same whether the engine reads it from a snapshot or a server sends it as JSON.

Vectors are compared as float32 bytes, since JSON prints them shortened; payloads as canonical JSON.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["IdsHash", "canonical", "payload_hash", "point_hash", "shortest_floats", "vectors_hash"]


def canonical(value: Any) -> str:
    """Return the one text form of a JSON value: sorted keys, no spaces. 1 and 1.0 stay different, as JSON has them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def point_hash(point_id: int | str, vectors: Any, payload: Mapping[str, Any] | None) -> str:
    """Return the SHA-256 of id, payload and all vectors of a point.

    `vectors` is what a server or the engine gives: a list for the unnamed vector, else a mapping by name.
    """
    return _sha256({"id": point_id, "payload": payload or {}, "vectors": _named(vectors)})


def vectors_hash(vectors: Any) -> str:
    """Return the SHA-256 of all vectors of a point, to tell what of it is different."""
    return _sha256(_named(vectors))


def payload_hash(payload: Mapping[str, Any] | None) -> str:
    """Return the SHA-256 of the payload of a point."""
    return _sha256(payload or {})


def _sha256(content: Any) -> str:
    return hashlib.sha256(canonical(content).encode("utf-8", "surrogatepass")).hexdigest()


def _named(vectors: Any) -> dict[str, Any]:
    named = vectors if isinstance(vectors, Mapping) else {} if vectors is None else {"": vectors}
    return {name: _vector(vector) for name, vector in named.items() if vector is not None}


class IdsHash:
    """One hash over a set of ids, in whatever order they come: which points there are, not only how many.

    The sum of their SHA-256, so that no id has to be remembered.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, point_id: int | str) -> None:
        self.add_all([point_id])

    def add_all(self, ids: Sequence[int | str]) -> bytes:
        """Add many at once, and return the SHA-256 of each, one after the other."""
        sha256 = hashlib.sha256
        # The canonical text of a whole number is its digits.
        digests = b"".join(
            [sha256((str(one) if isinstance(one, int) else canonical(one)).encode()).digest() for one in ids]
        )
        words = np.frombuffer(digests, dtype=">u4").reshape(-1, 8).sum(axis=0, dtype=np.uint64)
        self._sum += sum(int(word) << 32 * (7 - place) for place, word in enumerate(words))
        self.count += len(ids)
        return digests

    def hexdigest(self) -> str:
        return f"{self._sum % (1 << 256):064x}"


def shortest_floats(values: Iterable[float]) -> list[float]:
    """Return the shortest decimals that are the same float32 values; a third of the text of the exact ones."""
    return [float(str(np.float32(value))) for value in values]


def _vector(vector: Any) -> Any:
    """Return the canonical form: hex for a dense vector, a list of hex for a multivector, sorted pairs for a sparse."""
    indices, values = _sparse(vector)
    if indices is not None and values is not None:
        order = sorted(range(len(indices)), key=indices.__getitem__)
        return {"indices": [int(indices[at]) for at in order], "values": _hex([values[at] for at in order])}
    if len(vector) and isinstance(vector[0], Sequence | np.ndarray):
        return [_hex(row) for row in vector]
    return _hex(vector)


def _sparse(vector: Any) -> tuple[Sequence[int] | None, Sequence[float] | None]:
    if isinstance(vector, Mapping):
        return vector.get("indices"), vector.get("values")
    return getattr(vector, "indices", None), getattr(vector, "values", None)


def _hex(values: Any) -> str:
    # Adding zero turns -0.0 into 0.0: equal numbers, equal hash.
    return (np.asarray(values, dtype="<f4") + np.float32(0)).tobytes().hex()
