"""Proofs in Prefect: a real responder proves what is due, and a backup that is not right makes the run say so."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from flow_system import Prefect, Responder

from reanimate.backups.backup import take_backup
from reanimate.backups.manifest import VectorManifest
from reanimate.bootstrap import Services
from reanimate.orchestrator.launcher import Launcher
from reanimate.proofs.own_server import own_server
from reanimate.storage.blobs import remove_objects


@pytest.fixture
async def emptied(services: Services) -> AsyncIterator[None]:
    """What this test puts into the repository that all share goes again: others would trip over what is spoiled."""
    before = set(services.catalog.keys("backups"))
    yield
    await remove_objects(services.catalog.store, [key for key in services.catalog.keys("backups") if key not in before])


@pytest.fixture
def patient(services: Services) -> Launcher:
    """A launcher with more patience than an incident has."""
    return Launcher(services.http, services.addresses.prefect_api, budget_s=30.0)


async def test_prove__what_is_due_by_a_responder(
    services: Services, patient: Launcher, prefect: Prefect, responder: Responder, tmp_path: Path, emptied: None
) -> None:
    """A new backup is proven; one whose bytes were changed fails by name, and the others are proven all the same."""
    async with own_server("source", tmp_path / "source", services.http) as source:
        for name in ("good", "spoiled"):
            await source.create_collection(name, {"vectors": {"size": 4, "distance": "Cosine"}})
            await source.upsert(name, [{"id": n, "vector": [n, 1, 2, 3], "payload": {"n": n}} for n in range(1, 40)])
        good, spoiled = [await take_backup(source, name, services.catalog) for name in ("good", "spoiled")]
    part = services.settings.home / "blobs" / spoiled.parts[0].blob
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    run = await patient.create_run("prove/proofs", key=secrets.token_hex(4), parameters={})
    ended = await prefect.ended(run.id)
    assert ended["state_type"] == "FAILED"
    said = ended["state"]["message"]
    assert f"proof of {spoiled.id} in local" in said
    assert "parts: expected as the manifest says" in said
    assert f"proof of {good.id}" not in said
    assert services.catalog.find(good.id, VectorManifest).proven_at is not None
    failed = services.catalog.find(spoiled.id, VectorManifest).last_proof
    assert failed is not None
    assert failed.what == "proof-failed"
    again = await patient.create_run("prove/proofs", key=secrets.token_hex(4), parameters={"backups": [good.id]})
    assert (await prefect.ended(again.id))["state_type"] == "COMPLETED"
