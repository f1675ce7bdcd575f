"""What an offline standby of our own holds: asked of it, and told to it once a copy is whole and right."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reanimate.errors import ServerFailed
from reanimate.vector.server import VectorServer

__all__ = ["HeldCopy", "held_copies", "note_held"]

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class HeldCopy:
    """One collection of an offline standby. Without a `backup_id` it is being loaded, or was left by a kill."""

    name: str
    aliases: tuple[str, ...] = ()
    backup_id: str | None = None
    collection: str | None = None
    taken_at: datetime | None = None
    loaded_at: datetime | None = None
    points: int = 0
    age_s: int | None = None

    @property
    def serves(self) -> bool:
        """Whether clients reach it by the names they know."""
        return bool(self.aliases)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, but for the times."""
        return {**asdict(self), "serves": self.serves}


async def held_copies(server: VectorServer) -> list[HeldCopy]:
    """Return every collection of an offline standby.

    Raises:
        Refused: it is a server of another kind.
        Unreachable, ServerFailed: it does not answer.
    """
    doing = "asking for the copies held"
    answer = await server.request("GET", "/offline/copies", doing=doing, timeout_s=_TIMEOUT_S)
    try:
        return [_copy(row) for row in server.result(answer, doing)["copies"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ServerFailed(f"{doing} of {server.name} ({server.url}): the answer cannot be read: {error!r}") from error


def _copy(row: dict[str, Any]) -> HeldCopy:
    held = row["held"]
    if held is None:
        return HeldCopy(row["name"])
    return HeldCopy(
        name=row["name"],
        aliases=tuple(row["aliases"]),
        backup_id=held["backup_id"],
        collection=held["collection"],
        taken_at=datetime.fromisoformat(held["taken_at"]),
        loaded_at=datetime.fromisoformat(held["loaded_at"]),
        points=int(held["points"]),
        age_s=int(row["age_s"]),
    )


async def note_held(
    server: VectorServer,
    name: str,
    *,
    backup_id: str,
    collection: str,
    taken_at: datetime,
    loaded_at: datetime,
    points: int,
    manifest_sha256: str,
) -> None:
    """Tell an offline standby of which backup the collection `name` is a copy. From here on it is served.

    Raises:
        Refused: the key is not its control key.
        NotFound: there is no such collection.
        Unreachable, ServerFailed: it does not answer.
    """
    await server.request(
        "PUT",
        server.path(name).replace("/collections/", "/offline/copies/", 1),
        doing=f"noting what {name!r} is a copy of",
        timeout_s=_TIMEOUT_S,
        json={
            "backup_id": backup_id,
            "collection": collection,
            "taken_at": taken_at.isoformat(),
            "loaded_at": loaded_at.isoformat(),
            "points": points,
            "manifest_sha256": manifest_sha256,
        },
    )
