"""The new collection of a restore: planned on the target before anything is made, then made so that all shards fit."""

from reanimate.backups.manifest import VectorManifest
from reanimate.errors import ServerFailed
from reanimate.vector.config import creation_body, params_after_creation
from reanimate.vector.layout import Layout, wait_until_active
from reanimate.vector.peers import find_peers
from reanimate.vector.placement import Assignment, BackedShard, CreationPlan, place, plan_creation
from reanimate.vector.server import VectorServer
from reanimate.vector.shard_keys import create_shard_key

__all__ = ["enforce_limits", "make_collection", "plan_target"]

_MADE_WITHIN_S = 60.0
"""Empty replicas become active in a moment; what takes longer is not well."""


async def plan_target(server: VectorServer, manifest: VectorManifest) -> CreationPlan:
    """Say how the collection of a backup is to be made on this target.

    Raises:
        Refused: a shard would have no place there; the message names each and why.
        Unreachable, ServerFailed: the target did not answer.
    """
    replication = {key.key: key.replicas for key in manifest.shard_keys}
    return plan_creation(manifest.config, _shards(manifest), await find_peers(server), replication)


async def make_collection(
    server: VectorServer, name: str, manifest: VectorManifest, plan: CreationPlan
) -> tuple[list[Assignment], Layout]:
    """Make the collection and its shard keys, and return where each backed-up shard goes.

    Raises:
        Refused: it exists, the server does not take this config, or what it made has no place for some shard.
        ServerFailed: the empty replicas do not become active.
    """
    body = creation_body(manifest.config) | plan.params
    if strict := body.get("strict_mode_config"):
        # Its limits are for who asks the live collection, and would refuse the verification; `enforce_limits`.
        body["strict_mode_config"] = strict | {"enabled": False}
    await server.create_collection(name, body)
    if later := params_after_creation(manifest.config):
        await server.patch_collection(name, {"params": later})
    for key in plan.keys:
        await create_shard_key(server, name, key.body)
    layout = await wait_until_active(server, name, timeout_s=_MADE_WITHIN_S, without_silent=True)
    return place(_shards(manifest), layout), layout


async def enforce_limits(server: VectorServer, name: str, manifest: VectorManifest) -> None:
    """Switch the strict mode of the backed-up collection on, where it was on. Safe to repeat.

    Raises:
        ServerFailed: the server took the call and did not do it.
        Refused, Unreachable: it did not take the call.
    """
    wanted = manifest.config.get("strict_mode_config") or {}
    if not wanted.get("enabled"):
        return
    await server.patch_collection(name, {"strict_mode_config": {"enabled": True}})
    found = (await server.info(name))["config"].get("strict_mode_config") or {}
    if not found.get("enabled"):
        raise ServerFailed(f"switching strict mode of {name!r} on {server.name} on: it is still off")


def _shards(manifest: VectorManifest) -> list[BackedShard]:
    return [BackedShard(part.shard_id, part.shard_key) for part in manifest.parts]
