"""The demo's knowledge base: loaded through the gateway, backed up, and copied to the replica."""

from dataclasses import asdict
from typing import Any

import httpx

from reanimate.bootstrap import Services
from reanimate.commands.output import err
from reanimate.commands.progress import progress_bars
from reanimate.demo.knowledge import DIMENSION, Passage, embed, passages
from reanimate.errors import ServerFailed
from reanimate.protection.backups import back_up, seed_replicas

__all__ = ["ALIAS", "chosen_passages", "load_knowledge", "protect"]

ALIAS = "kb"
_COLLECTION = "passages"
_PASSAGES = 2_400


def chosen_passages() -> list[Passage]:
    """Return as many passages as the demo loads, from all over what there is."""
    found = passages(_PASSAGES)
    return [found[number * len(found) // _PASSAGES] for number in range(_PASSAGES)]


async def load_knowledge(gateway: str, knowledge: list[Passage]) -> None:
    """Load the passages through the gateway, as an agent would, into a collection reached by an alias."""
    err.print(
        f"{len(knowledge):,} passages of Python's own documentation, embedded by hashing words into {DIMENSION} "
        "dimensions (a stand-in: deterministic, no model)"
    )
    async with httpx.AsyncClient(base_url=gateway, timeout=30, trust_env=False) as client:

        async def call(method: str, path: str, body: dict[str, Any]) -> None:
            answer = await client.request(method, path, json=body, params={"wait": "true"})
            if answer.status_code != 200:
                raise ServerFailed(f"{method} {path} through the gateway: {answer.status_code} {answer.text[:300]}")

        await call("PUT", f"/collections/{_COLLECTION}", {"vectors": {"size": DIMENSION, "distance": "Cosine"}})
        for field in ("kind", "module"):
            await call("PUT", f"/collections/{_COLLECTION}/index", {"field_name": field, "field_schema": "keyword"})
        with progress_bars() as report:
            for start in range(0, len(knowledge), 200):
                batch = knowledge[start : start + 200]
                points = [
                    {"id": start + number, "vector": embed(passage.text).tolist(), "payload": asdict(passage)}
                    for number, passage in enumerate(batch, start=1)
                ]
                await call("PUT", f"/collections/{_COLLECTION}/points", {"points": points})
                report("load", start + len(batch), len(knowledge))
        alias = {"create_alias": {"collection_name": _COLLECTION, "alias_name": ALIAS}}
        await call("POST", "/collections/aliases", {"actions": [alias]})


async def protect(services: Services) -> None:
    """Take a backup of the primary, check it, and copy it to every replica."""
    with progress_bars() as report:
        manifest = await back_up(services, ALIAS, target="primary", trigger="demo", on_progress=report)
        await seed_replicas(services, manifest, on_progress=report)
    size = sum(part.size for part in manifest.parts)
    err.print(f"backup {manifest.id}: {manifest.exact_count:,} points, {size / 1e6:.1f} MB, read back and checked")
