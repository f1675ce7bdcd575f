"""Vectors that follow from a text: unit length, the same from every provider."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b
from random import Random
from typing import Any

import numpy as np
import orjson

__all__ = ["embeddings"]

_DIMENSIONS = 64


def embeddings(body: Mapping[str, Any]) -> bytes:
    """Return the answer to `/v1/embeddings`.

    Raises:
        KeyError, TypeError: the request is not what the API takes.
    """
    given = body["input"]
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    dimensions = int(body.get("dimensions") or _DIMENSIONS)
    tokens = sum(max(1, len(text) // 4) if isinstance(text, str) else len(text) for text in texts)
    data = [
        {"object": "embedding", "index": number, "embedding": _encoded(_vector(str(text), dimensions), body)}
        for number, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage})


def _vector(text: str, dimensions: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
    random = Random(int.from_bytes(blake2b(text.encode(), digest_size=8).digest()))
    values = np.array([random.gauss(0, 1) for _ in range(dimensions)], dtype=np.float32)
    return values / np.linalg.norm(values)


def _encoded(vector: "np.ndarray[Any, np.dtype[np.float32]]", body: Mapping[str, Any]) -> Any:
    if body.get("encoding_format") == "base64":
        return b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
