"""A peer of backup-restore: the bare snapshot calls, one after the other. Nothing is hashed, stored or verified.

Create, download to a file, create a collection, upload, wait until it is green: less than anybody would dare.
"""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

__all__ = ["there_and_back"]

_CHUNK = 1 << 20


def there_and_back(url: str, api_key: str | None, collection: str, new: str, body: dict[str, Any], file: Path) -> float:
    """Do it for a collection of one shard and return the seconds; afterwards the snapshot is removed again."""
    headers = {"accept-encoding": "identity"}  # else a server compresses what it sends
    if api_key:
        headers["api-key"] = api_key
    with httpx.Client(base_url=url, headers=headers, timeout=600.0, trust_env=False) as http:
        snapshots = f"/collections/{quote(collection, safe='')}/shards/0/snapshots"
        began = time.perf_counter()
        name = _result(http.post(snapshots))["name"]
        with http.stream("GET", f"{snapshots}/{quote(name, safe='')}") as answer, file.open("wb") as out:
            answer.raise_for_status()
            for chunk in answer.iter_raw(_CHUNK):
                out.write(chunk)
        _result(http.put(f"/collections/{new}", json=body))
        with file.open("rb") as source:
            upload = f"/collections/{new}/shards/0/snapshots/upload"
            _result(http.post(upload, params={"priority": "snapshot"}, files={"snapshot": source}))
        while _result(http.get(f"/collections/{new}"))["status"] != "green":
            time.sleep(0.02)
        taken = time.perf_counter() - began
        _result(http.delete(f"{snapshots}/{quote(name, safe='')}"))
        return taken


def _result(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()["result"]
