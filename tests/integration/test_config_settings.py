"""A vector server's settings as versions: what is kept, what a change shows as, and what can be put back."""

from pathlib import Path

import httpx
import pytest
from qdrant_servers import CleanServer, fill, server_at

from reanimate.backups.catalog import Catalog
from reanimate.config import ConfigurationSettings
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.restoring import plan_version, restore_version
from reanimate.config_history.states import difference
from reanimate.config_history.subjects import Setting
from reanimate.config_history.versions import Version
from reanimate.errors import NotFound, Refused
from reanimate.vector.config import payload_schema


@pytest.fixture
def history(catalog: Catalog, primary: CleanServer, tmp_path: Path) -> ConfigHistory:
    """The history of one server's settings."""
    return ConfigHistory(
        catalog, ConfigurationSettings(), name="agent", home=tmp_path / "home", servers=[primary.server]
    )


async def newest(history: ConfigHistory, setting: Setting) -> Version:
    return (await history.versions(setting.subject))[0]


async def test_keep__a_servers_settings_without_its_data(history: ConfigHistory, primary: CleanServer) -> None:
    """Points that come and go are no change; a setting that changes is one version, of that setting alone."""
    name = primary.name()
    await fill(primary.server, name, 20, alias=primary.name("alias"))
    kb = Setting("primary", "collections", name)
    kept = await history.keep()
    subjects = {version.subject for version in kept.changes}
    assert {kb.subject, "qdrant:primary/aliases", "qdrant:primary/server"} <= subjects
    first = await newest(history, kb)
    assert (first.kind, first.author.source) == ("settings", "unknown")
    content = await history.content(first)
    assert content
    assert b'"size": 16' in content
    assert b'"lang"' in content
    await primary.server.upsert(name, [{"id": 100, "vector": [0.5] * 16, "payload": {"lang": "x"}}])
    assert [version.subject for version in (await history.keep()).changes if primary.prefix in version.subject] == []
    await primary.server.patch_collection(name, {"hnsw_config": {"m": 32}})
    changes = (await history.keep()).changes
    assert [version.subject for version in changes if primary.prefix in version.subject] == [kb.subject]
    lines = [(line.kind, line.text) for line in await difference(history, kb.subject, None, None)]
    assert lines[2:] == [("less", "config.hnsw_config.m: 16"), ("more", "config.hnsw_config.m: 32")]


async def test_keep__a_server_that_does_not_answer_is_not_an_empty_one(
    history: ConfigHistory, primary: CleanServer, vector_http: httpx.AsyncClient, catalog: Catalog, tmp_path: Path
) -> None:
    """Its settings stay as they were last kept, and that is told; a collection that is gone is a version."""
    name = primary.name()
    await fill(primary.server, name, 1)
    await history.keep()
    away = ConfigHistory(
        catalog,
        ConfigurationSettings(),
        name="agent",
        home=tmp_path / "home",
        servers=[server_at("http://127.0.0.1:9", vector_http)],
    )
    kept = await away.keep()
    assert kept.changes == ()
    assert "settings of primary stay as they were last kept" in kept.problems[0]
    await primary.server.delete_collection(name)
    kept = await history.keep()
    kb = Setting("primary", "collections", name)
    assert [version.kind for version in kept.changes if version.subject == kb.subject] == ["deleted"]
    before = (await history.versions(kb.subject))[1]
    with pytest.raises(Refused, match="do not bring its points back"):
        await plan_version(history, before)
    with pytest.raises(Refused, match="settings are not deleted"):
        await plan_version(history, await newest(history, kb))
    with pytest.raises(NotFound, match="no vector target"):
        await plan_version(
            ConfigHistory(catalog, ConfigurationSettings(), name="agent", home=tmp_path / "home"), before
        )


async def test_restore__what_a_live_collection_takes(history: ConfigHistory, primary: CleanServer) -> None:
    """Config, metadata and indexes come back and are read back; what was there is kept, and comes back likewise."""
    server, name = primary.server, primary.name()
    await fill(server, name, 20)
    await server.patch_collection(name, {"metadata": {"owner": "team-a"}, "strict_mode_config": {"enabled": False}})
    kb = Setting("primary", "collections", name)
    await history.keep()
    good = await newest(history, kb)
    await server.patch_collection(
        name,
        {
            "hnsw_config": {"m": 48, "ef_construct": 64},
            "optimizers_config": {"indexing_threshold": 5, "max_segment_size": 5000},
            "strict_mode_config": {"enabled": True, "max_query_limit": 5},
            "quantization_config": {"scalar": {"type": "int8"}},
            "vectors": {"": {"on_disk": True}},
            "metadata": {"owner": "somebody", "note": "oops"},
        },
    )
    await server.request("DELETE", server.path(name, "index/lang"), doing="breaking it", timeout_s=10)
    await server.create_index(name, "score", "float")
    plan = await plan_version(history, good)
    assert plan.settings
    assert plan.settings.patch == {
        "hnsw_config": {"m": 16, "ef_construct": 100},
        "optimizers_config": {"indexing_threshold": plan.settings.patch["optimizers_config"]["indexing_threshold"]},
        "strict_mode_config": {"enabled": False},
        "quantization_config": "Disabled",
        "metadata": {"note": None, "owner": "team-a"},
    }
    assert list(plan.settings.indexes) == ["lang"]
    told = "\n".join(plan.cannot)
    assert "optimizer_config.max_segment_size is 5000, was not set" in told
    assert "strict_mode_config.max_query_limit is 5, was not set" in told
    assert "on_disk is True, was not set" in told
    assert any("'score' was made since" in note for note in plan.notes)
    restored = await restore_version(history, good)
    info = await server.info(name)
    assert info["config"]["hnsw_config"]["m"] == 16
    assert info["config"]["quantization_config"] is None
    assert info["config"]["metadata"] == {"owner": "team-a"}
    assert payload_schema(info)["lang"] == {"data_type": "keyword"}
    assert await server.exact_count(name) == 20
    assert restored.before
    assert restored.after
    assert restored.after.author.source == "restore"
    await restore_version(history, restored.before)
    info = await server.info(name)
    assert info["config"]["hnsw_config"] == {**info["config"]["hnsw_config"], "m": 48, "ef_construct": 64}
    assert info["config"]["quantization_config"] == {"scalar": {"type": "int8"}}


async def test_restore__aliases_in_one_call(history: ConfigHistory, primary: CleanServer) -> None:
    """One that was deleted is made, one that was moved is moved back, one made since stays, one to nothing is named."""
    server = primary.server
    one, two, gone = (primary.name(suffix) for suffix in ("one", "two", "gone"))
    for name in (one, two, gone):
        await fill(server, name, 1, alias=primary.name(f"to-{name}"))
    aliases = Setting("primary", "aliases")
    await history.keep()
    good = await newest(history, aliases)
    await server.delete_collection(gone)
    a, b = primary.name(f"to-{one}"), primary.name(f"to-{two}")
    await server.update_aliases(
        [
            {"delete_alias": {"alias_name": a}},
            {"delete_alias": {"alias_name": b}},
            {"create_alias": {"alias_name": b, "collection_name": one}},
            {"create_alias": {"alias_name": primary.name("new"), "collection_name": one}},
        ]
    )
    plan = await plan_version(history, good)
    assert any(f"pointed to {gone!r}, which is gone" in what for what in plan.cannot)
    await restore_version(history, good)
    assert await primary.aliases() == {a: one, b: two, primary.name("new"): one}
    assert (await restore_version(history, good)).plan.does == ()
    with pytest.raises(Refused, match="the deployment's"):
        await plan_version(history, await newest(history, Setting("primary", "server")))
