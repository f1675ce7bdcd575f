"""Switching aliases to a restored collection in one call, and back."""

from dataclasses import asdict, dataclass
from typing import Any

from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.errors import NotFound, ServerFailed
from reanimate.restores.making import enforce_limits
from reanimate.vector.server import Json, VectorServer

__all__ = ["AliasSwitch", "plan_switch", "switch_aliases", "undo_switch"]


@dataclass(frozen=True)
class AliasSwitch:
    """Where aliases pointed before and point after, alias -> collection. One that is not in `before` did not exist."""

    before: dict[str, str]
    after: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, to be kept until the undo is not wanted any more."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "AliasSwitch":
        return cls(before=dict(kept["before"]), after=dict(kept["after"]))


async def plan_switch(server: VectorServer, manifest: VectorManifest, name: str) -> AliasSwitch:
    """Say what a switch to the collection `name` would change, without changing it.

    To be kept before the switch: what stood before can only be read before.
    """
    current = await server.aliases()
    wanted = list(manifest.aliases)
    own = manifest.collection
    # Clients that never used an alias find the restored data under the lost collection's own name.
    if own == base_name(own) and own != name and own not in wanted and own not in await server.collections():
        wanted.append(own)
    return AliasSwitch(
        before={alias: current[alias] for alias in wanted if alias in current},
        after=dict.fromkeys(wanted, name),
    )


async def switch_aliases(
    server: VectorServer, manifest: VectorManifest, name: str, planned: AliasSwitch | None = None
) -> AliasSwitch:
    """Point every alias of the manifest at the collection `name`, in one call, and see that it is so. Safe to repeat.

    Before that the strict mode of the backed-up collection is switched on, from which the verification was spared.
    The old collection is kept. Give `planned`, from `plan_switch`, to return the true `before` also when repeated.

    Raises:
        NotFound: there is no collection of that name.
        ServerFailed: the server said yes, and the aliases are not so.
        Refused, Unreachable: the server said no or nothing.
    """
    if name not in await server.collections():
        raise NotFound(f"switching aliases on {server.name} to {name!r}: there is no such collection")
    switch = planned or await plan_switch(server, manifest, name)
    await enforce_limits(server, name, manifest)
    await _apply(server, switch.after, [])
    return switch


async def undo_switch(server: VectorServer, switch: AliasSwitch) -> None:
    """Put back what stood before a switch: moved aliases back, new ones away. Safe to repeat.

    Raises:
        ServerFailed, Refused, Unreachable: as `switch_aliases`; for instance, a collection of before is gone.
    """
    current = await server.aliases()
    # Without an `after` the switch was cut before it was noted: everything known of before is put back.
    touched = switch.after.keys() or switch.before.keys()
    back = {alias: switch.before[alias] for alias in touched if alias in switch.before}
    # An alias that somebody has pointed elsewhere since is theirs now.
    away = [alias for alias in touched if alias not in switch.before and current.get(alias) == switch.after.get(alias)]
    await _apply(server, back, [alias for alias in away if alias in current])


async def _apply(server: VectorServer, wanted: dict[str, str], away: list[str]) -> None:
    """Make the aliases so, all of them in one call, and read them back."""
    current = await server.aliases()
    actions: list[Json] = []
    for alias in [*away, *(alias for alias in wanted if alias in current and current[alias] != wanted[alias])]:
        actions.append({"delete_alias": {"alias_name": alias}})
    for alias, collection in wanted.items():
        if current.get(alias) != collection:
            actions.append({"create_alias": {"collection_name": collection, "alias_name": alias}})
    if not actions:
        return
    await server.update_aliases(actions)
    found = await server.aliases()
    wrong = [alias for alias, collection in wanted.items() if found.get(alias) != collection]
    wrong += [alias for alias in away if alias in found]
    if wrong:
        raise ServerFailed(f"switching aliases on {server.name}: it said yes, and {', '.join(wrong)} are not so")
