"""Single points out of a backup of a collection whose shards are chosen by keys: each back to its own key."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import URLS
from test_cluster_backups import _custom, _ids_of_key

from reanimate.addresses import Addresses
from reanimate.backups.backup import take_backup
from reanimate.bootstrap import Services, open_services
from reanimate.protection.restore_plans import plan_for
from reanimate.protection.single_points import recover_points, undo_recovery
from reanimate.restores.candidates import Wish
from reanimate.vector.server import VectorServer


@pytest.fixture
async def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    """Services whose primary is the cluster; the record is away."""
    nowhere = "http://127.0.0.1:9"
    names = ("web", "prefect_api", "prefect_ui", "gateway", "gateway_control", "watch")
    database = "postgresql+psycopg://nobody@127.0.0.1:9/nothing"
    Addresses(**dict.fromkeys(names, nowhere), database=database, vector={"primary": URLS[0]}).save(tmp_path)
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database)
    async with open_services() as opened:
        yield opened


async def test_points__go_back_to_their_keys(
    cluster: VectorServer, services: Services, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted from two keys, restored into the two, and taken back from there; other keys are not touched."""
    name = f"{prefix}-kb"
    keys: list[str | int] = ["de", 7, "7"]
    await _custom(cluster, name, [("de", 2, 1), (7, 1, 1), ("7", 1, 1)])
    monkeypatch.setattr(Services, "vector", lambda self, target: cluster)
    await take_backup(cluster, name, services.catalog)
    before = [await _ids_of_key(cluster, name, key) for key in keys]
    await cluster.delete_points(name, [5, 6], shard_key="de")
    await cluster.delete_points(name, [1009], shard_key=7)
    deleted = [await _ids_of_key(cluster, name, key) for key in keys]
    assert [len(ids) for ids in deleted] == [98, 99, 100]

    planned = await plan_for(services, Wish(name), by_engine=True)
    found = await recover_points(services, planned, name, None)
    assert found.compared.missing == [5, 6, 1009]
    assert found.compared.same == 297
    assert found.written is not None
    assert found.written.undo_file is not None
    assert json.loads(found.written.undo_file.read_text().splitlines()[1])["shard_key"] == "de"
    assert [await _ids_of_key(cluster, name, key) for key in keys] == before
    await undo_recovery(services, found.written.undo_file, "primary")
    assert [await _ids_of_key(cluster, name, key) for key in keys] == deleted
