"""Put a vector server's setting back: what can be changed on a live collection is, what cannot is named plainly."""

from dataclasses import dataclass, field
from typing import Any

from reanimate.config_history.server_settings import read_setting
from reanimate.config_history.subjects import Setting
from reanimate.errors import NotFound, Refused, ServerFailed
from reanimate.vector.config import dense_vectors, index_schema, schema_differences
from reanimate.vector.server import Json, VectorServer

__all__ = ["SettingsPlan", "apply_settings", "plan_settings"]

_PATCHED_PARAMS = (
    "replication_factor",
    "write_consistency_factor",
    "read_fan_out_factor",
    "read_fan_out_delay_ms",
    "on_disk_payload",
)
_SECTIONS = {
    "hnsw_config": "hnsw_config",
    "optimizer_config": "optimizers_config",
    "strict_mode_config": "strict_mode_config",
}
_REBUILDS = ("hnsw_config", "quantization_config", "vectors", "sparse_vectors")


@dataclass(frozen=True)
class SettingsPlan:
    """What putting a setting back would do, and what it cannot do."""

    setting: Setting
    patch: Json = field(default_factory=dict)
    """Body of `PATCH /collections/{c}`; empty when nothing is to be changed so."""
    indexes: dict[str, Json] = field(default_factory=dict)
    """Payload indexes to create."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Aliases to create or move."""
    cannot: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def does_something(self) -> bool:
        return bool(self.patch or self.indexes or self.aliases)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "patch": self.patch,
            "indexes": self.indexes,
            "aliases": self.aliases,
            "cannot": list(self.cannot),
            "notes": list(self.notes),
        }


def plan_settings(setting: Setting, wanted: Json, live: Json, *, collections: list[str]) -> SettingsPlan:
    """Say what makes the live setting the wanted one. `collections` are those there are, for aliases.

    Raises:
        Refused: this kind of setting is only shown: what a server is and where its peers are is not set by a call.
    """
    if setting.what == "server":
        raise Refused(
            f"{setting.subject} cannot be put back by a call: version and peers are the deployment's",
            hint="`reanimate config diff` shows what changed",
        )
    if setting.what == "aliases":
        return _plan_aliases(setting, wanted["aliases"], live["aliases"], collections)
    return _plan_collection(setting, wanted, live)


async def apply_settings(server: VectorServer, plan: SettingsPlan) -> None:
    """Do what the plan says, and read back that it is so. Safe to repeat.

    Raises:
        ServerFailed: the server said yes and it is not so.
        Refused, Unreachable: the server said no or nothing; what was done before stays, and is done again.
    """
    name = plan.setting.name
    if plan.patch:
        await server.patch_collection(name, plan.patch)
    for field_name, row in plan.indexes.items():
        await server.create_index(name, field_name, index_schema(row))
    if plan.aliases:
        current = await server.aliases()
        away: list[Json] = [
            {"delete_alias": {"alias_name": alias}}
            for alias, collection in plan.aliases.items()
            if current.get(alias, collection) != collection
        ]
        there: list[Json] = [
            {"create_alias": {"collection_name": collection, "alias_name": alias}}
            for alias, collection in plan.aliases.items()
        ]
        await server.update_aliases([*away, *there])


async def require_applied(server: VectorServer, plan: SettingsPlan, wanted: Json) -> None:
    """Read the setting back.

    Raises:
        ServerFailed: something of the plan is not so.
    """
    live = await read_setting(server, plan.setting)
    left = plan_settings(plan.setting, wanted, live, collections=await server.collections())
    if left.does_something:
        raise ServerFailed(
            f"putting {plan.setting.subject} back on {server.name}: it said yes, and this is not so: {left.to_json()}"
        )


# -- collections -------------------------------------------------------------------------------------------------------


def _plan_collection(setting: Setting, wanted: Json, live: Json) -> SettingsPlan:
    patch: Json = {}
    cannot: list[str] = []
    config, current = wanted["config"], live["config"]
    if params := _changed("params", config, current, cannot, _PATCHED_PARAMS):
        patch["params"] = params
    for section, sent_as in _SECTIONS.items():
        if changed := _changed(section, config, current, cannot):
            patch[sent_as] = changed
    if (config.get("quantization_config") or None) != (current.get("quantization_config") or None):
        patch["quantization_config"] = config.get("quantization_config") or "Disabled"
    if (metadata := _changed_metadata(config, current)) is not None:
        patch["metadata"] = metadata
    if vectors := _changed_vectors(config, current, cannot):
        patch["vectors"] = vectors
    if sparse := _changed_sparse(config, current, cannot):
        patch["sparse_vectors"] = sparse
    for name in ("shard_number", "sharding_method"):
        old, new = config["params"].get(name), current["params"].get(name)
        if old != new:
            cannot.append(f"params.{name} is {new}, was {old}: fixed when a collection is made")
    for name in sorted((config.get("wal_config") or {}).keys() | (current.get("wal_config") or {}).keys()):
        old, new = (config.get("wal_config") or {}).get(name), (current.get("wal_config") or {}).get(name)
        if old != new:
            cannot.append(f"wal_config.{name} is {new}, was {old}: fixed when a collection is made")
    schema, has = wanted["payload_schema"], live["payload_schema"]
    indexes = {name: row for name, row in schema.items() if schema_differences({name: row}, has)}
    notes = [f"the payload index {name!r} was made since, and stays" for name in sorted(has.keys() - schema.keys())]
    if wanted.get("placement") != live.get("placement"):
        cannot.append("placement: which peer holds which shard is changed by moving shards, not by a setting")
    if any(name in patch for name in _REBUILDS):
        notes.append("the server builds indexes anew in the background; answers stay right, and are slower until then")
    return SettingsPlan(setting, patch, indexes, cannot=tuple(cannot), notes=tuple(notes))


def _changed(section: str, wanted: Json, live: Json, cannot: list[str], names: tuple[str, ...] | None = None) -> Json:
    """Return what of a section is to be sent; what was not set before cannot be unset by a call."""
    old, new = wanted.get(section) or {}, live.get(section) or {}
    changed = {}
    for name in names or sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if old.get(name) is None:
            cannot.append(f"{section}.{name} is {new[name]}, was not set: a server cannot unset it")
        else:
            changed[name] = old[name]
    return changed


def _changed_metadata(wanted: Json, live: Json) -> Json | None:
    """Return the metadata to send: it is merged by key, and null takes a key away."""
    old, new = wanted.get("metadata") or {}, live.get("metadata") or {}
    if old == new:
        return None
    return {**dict.fromkeys(new.keys() - old.keys()), **{key: old[key] for key in old if old[key] != new.get(key)}}


def _changed_vectors(wanted: Json, live: Json, cannot: list[str]) -> Json:
    old, new = dense_vectors(wanted), dense_vectors(live)
    _name_others("vector", old, new, cannot)
    changes: Json = {}
    for name in sorted(old.keys() & new.keys()):
        about = f"vector {name!r}"
        for key in ("size", "distance", "datatype", "multivector_config"):
            if old[name].get(key) != new[name].get(key):
                cannot.append(
                    f"{about}: {key} is {new[name].get(key)}, was {old[name].get(key)}: it decides what the stored "
                    "vectors mean; restore a backup instead"
                )
        change = _changed(about, {about: _only_hnsw(old[name])}, {about: _only_hnsw(new[name])}, cannot)
        hnsw = change and {"hnsw_config": change}
        disk = _changed(about, {about: old[name]}, {about: new[name]}, cannot, ("on_disk",))
        quantized: Json = {}
        if (old[name].get("quantization_config") or None) != (new[name].get("quantization_config") or None):
            quantized = {"quantization_config": old[name].get("quantization_config") or "Disabled"}
        if whole := {**(hnsw or {}), **disk, **quantized}:
            changes[name] = whole
    return changes


def _only_hnsw(vector: Json) -> Json:
    found: Json = vector.get("hnsw_config") or {}
    return found


def _changed_sparse(wanted: Json, live: Json, cannot: list[str]) -> Json:
    old = wanted["params"].get("sparse_vectors") or {}
    new = live["params"].get("sparse_vectors") or {}
    _name_others("sparse vector", old, new, cannot)
    changes: Json = {}
    for name in sorted(old.keys() & new.keys()):
        before, now = old[name] or {}, new[name] or {}
        change: Json = {}
        if before.get("modifier") != now.get("modifier"):
            if before.get("modifier") is None:
                cannot.append(f"sparse vector {name!r}: modifier is {now['modifier']}, was not set: it cannot be unset")
            else:
                change["modifier"] = before["modifier"]
        about = f"sparse vector {name!r}: index"
        if index := _changed(about, {about: before.get("index")}, {about: now.get("index")}, cannot):
            change["index"] = {**(now.get("index") or {}), **index}
        if change:
            changes[name] = change
    return changes


def _name_others(what: str, old: Json, new: Json, cannot: list[str]) -> None:
    cannot += [f"{what} {name!r} is gone: restore a backup instead" for name in sorted(old.keys() - new.keys())]
    cannot += [f"{what} {name!r} was added since, and stays" for name in sorted(new.keys() - old.keys())]


# -- aliases -----------------------------------------------------------------------------------------------------------


def _plan_aliases(setting: Setting, wanted: dict[str, str], live: dict[str, str], there: list[str]) -> SettingsPlan:
    changes, cannot, notes = {}, [], []
    for alias, collection in sorted(wanted.items()):
        if live.get(alias) == collection:
            continue
        if collection not in there:
            cannot.append(f"the alias {alias!r} pointed to {collection!r}, which is gone: restore a backup instead")
        elif alias in there:
            cannot.append(f"the alias {alias!r} cannot be made: a collection has that name now")
        else:
            changes[alias] = collection
            if alias in live:
                notes.append(f"{alias!r} moves from {live[alias]!r} to {collection!r}: clients read that one at once")
    notes += [f"the alias {alias!r} was made since, and stays" for alias in sorted(live.keys() - wanted.keys())]
    return SettingsPlan(setting, aliases=changes, cannot=tuple(cannot), notes=tuple(notes))


async def plan_restore_of(server: VectorServer, setting: Setting, wanted: Json) -> tuple[SettingsPlan, Json]:
    """Plan against the server as it is now; return the plan and the live setting.

    Raises:
        Refused: see `plan_settings`, or the collection is gone.
    """
    try:
        live = await read_setting(server, setting)
    except NotFound:
        raise Refused(
            f"{setting.subject}: the collection is gone, and settings alone do not bring its points back",
            hint=f"`reanimate restore plan --collection {setting.name}` says which backup would",
        ) from None
    return plan_settings(setting, wanted, live, collections=await server.collections()), live
